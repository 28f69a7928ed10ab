"""Where each of Anki's cards belongs: its note, and there its ordinal; its deck, its place and its rank.

That is all of the cards that notes wait for, and a fraction of the work: what else they say is staged beside the notes
(see `llmquiz.anki.importing.cards`).
"""

from __future__ import annotations

from typing import NamedTuple

from llmquiz.anki.archive import columns, names
from llmquiz.anki.archive.columns import integer
from llmquiz.anki.archive.reading import Tables
from llmquiz.anki.archive.untrusted import Database
from llmquiz.anki.exporting.notetypes import FACES
from llmquiz.anki.importing import naming
from llmquiz.core.schedule import State
from llmquiz.store import staging

LEECH = "leech"

# A new card's due is its place; of others Anki keeps it as the first thing in their data.
_PLACE = f"""
CASE WHEN {integer("type")} = {State.NEW:d} AND {integer("odid")} = 0 THEN max({integer("due")}, 0)
  WHEN data GLOB '{{"pos":[0-9]*' THEN CAST(substr(data, {len('{"pos":') + 1}) AS INTEGER)
  WHEN instr(data, '"pos"') AND json_valid(data) THEN json_extract(data, '$.pos') END
"""
_STAGE = f"""
INSERT OR IGNORE INTO home (part, own, note, ordinal, anki_deck, place)
SELECT {integer("id")}, own.first IS NOT NULL, {integer("nid")}, {integer("ord")} + ifnull(own.first, 0),
  iif({integer("odid")} <> 0, {integer("odid")}, {integer("did")}), {_PLACE}
FROM cards NOT INDEXED LEFT JOIN temp.own ON own.note = nid WHERE {columns.CARDS.fits}
"""
_SPECIAL = f"""
SELECT id, guid, mid, tags FROM notes NOT INDEXED WHERE typeof(id) = 'integer'
AND (substr(guid, 1, {len(naming.OWN_GUID)}) = '{naming.OWN_GUID}' OR tags LIKE '%{LEECH}%')
"""
_DOUBLES = f"""
SELECT count(*), min(+id) FROM cards NOT INDEXED
WHERE {columns.CARDS.fits} AND {integer("id")} NOT IN (SELECT part FROM home)
"""


class OwnNote(NamedTuple):
    """A note that llmquiz exported: its card, and the ordinal there of its first face."""

    card: str
    first: int


class Special(NamedTuple):
    """The notes that llmquiz exported, and those that Anki tagged because of a leech among their cards; by id."""

    own: dict[int, OwnNote]
    leeches: set[int]


def stage(tables: Tables, findings: list[str]) -> Special:
    """Fill a table ``home`` in the tables' own database, in the order of the cards; a `part` is a card's id.

    A column is added for the readers of notes: `place`, where the card stands or stood in the queue of new cards; a
    thing of any type, as it is told.

    Args:
        findings: where to add what was left out.
    """
    source, special = tables.source, _special(tables)
    source.run("CREATE TEMP TABLE own (note INTEGER PRIMARY KEY, first INTEGER)")
    source.run_many("INSERT INTO temp.own VALUES (?, ?)", [(note, it.first) for note, it in special.own.items()])
    source.make(staging.create_homes)
    source.run("ALTER TABLE home ADD COLUMN place ANY")
    if source.run(_STAGE) < tables.counts[1]:
        _tell_left_out(source, findings)
    return special


def _special(tables: Tables) -> Special:
    own, leeches = {}, set()
    for note, guid, notetype, tags in tables.source.rows(_SPECIAL):
        known = tables.notetypes.get(notetype)
        if known and isinstance(guid, str) and guid.startswith(naming.OWN_GUID):
            card, part = naming.own_card_id(guid)
            # Anki numbers deletions from 0, we from 1.
            own[note] = OwnNote(card, 1 if known.is_cloze else part * FACES)
        if isinstance(tags, str) and any(tag.lower() == LEECH for tag in tags.replace("\u3000", " ").split(" ")):
            leeches.add(note)
    return Special(own, leeches)


def _tell_left_out(source: Database, findings: list[str]) -> None:
    tally = names.Tally(findings)
    columns.tell(source, columns.CARDS, tally)
    count, first = source.row(_DOUBLES) or (0, 0)
    if count:
        tally.add("left out, its note has that card already", f"card {first}", count)
    tally.flush()
