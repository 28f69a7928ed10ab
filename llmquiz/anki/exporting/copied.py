"""What came from Anki and stands as it came goes back from table to table, without a stop in Python.

That is every note of Anki's, the whole log, and each card whose schedule nothing here has changed: it goes as
`llmquiz.store.incoming.AnkiCard.kept` has it. All other cards are for `llmquiz.anki.exporting.rows`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping
from typing import Any

from llmquiz.anki.exporting import foreign, progress
from llmquiz.anki.exporting.collection import checksum

_FIELD_END = "\x1f"

_NOTES = """
    INSERT INTO package.notes
    SELECT chosen.id, guid, notetype, modified, -1, CASE
        WHEN :tagged AND position IN (SELECT position FROM part WHERE leech)
          AND NOT instr(' ' || lower(tags) || ' ', ' leech ') THEN ' ' || ltrim(trim(tags) || ' leech ')
        WHEN trim(tags) = '' THEN '' ELSE ' ' || trim(tags) || ' '
      END, fields, anki_sort_field(fields, json_extract(:sorted_by, '$."' || notetype || '"')), anki_checksum(fields),
      0, ''
    FROM chosen JOIN anki_note ON anki_note.rowid = chosen.note ORDER BY chosen.id
"""
# Sorted first, so that rows are appended; the limit keeps SQLite from reading what is in `kept` twice.
_CARDS = f"""
    INSERT OR IGNORE INTO package.cards
    SELECT card, note, deck, ordinal, modified, -1, came_type, came_queue, came_due, came_ivl, factor, came_reps,
           came_lapses, came_left, 0, 0, came_flags, came_data
    FROM (
      SELECT part.card, chosen.id AS note, anki_card.deck, ordinal, modified, factor, {progress.CAME},
             state, due, stability, difficulty, last_review, reps, suspended, buried_on, flag
      FROM (SELECT * FROM part WHERE card IS NOT NULL ORDER BY card LIMIT -1) AS part CROSS JOIN chosen USING (position)
      CROSS JOIN anki_note ON anki_note.rowid = chosen.note CROSS JOIN schedule ON schedule.id = part.schedule
      CROSS JOIN anki_card ON anki_card.schedule = part.schedule
      WHERE anki_card.deck IN (SELECT value FROM json_each(:decks)) AND json_valid(kept) LIMIT -1
    ) WHERE {progress.STANDS}
"""
_FACTOR = "CASE WHEN difficulty > 0 THEN CAST(round(((difficulty - 1) / 9.0 + 0.1) * 1000) AS INTEGER) ELSE 0 END"
_TYPES = " ".join(f"WHEN {state.value} THEN {number}" for state, number in progress.REVLOG_TYPES.items())
_TYPE = f"CASE state {_TYPES} END"
_REVIEWS = f"""
    INSERT INTO package.revlog
    SELECT live_review.id, part.card, -1, rating, interval, last_interval, coalesce(anki_factor, {_FACTOR}),
           max(duration_ms, 0), coalesce(anki_type, {_TYPE})
    FROM live_review JOIN part ON part.schedule = live_review.schedule ORDER BY live_review.id
"""
_RESCHEDULES = """
    INSERT INTO package.revlog
    SELECT anki_reschedule.id, part.card, -1, 0, interval, last_interval, factor, duration_ms, type
    FROM anki_reschedule JOIN part ON part.schedule = anki_reschedule.schedule
    WHERE anki_reschedule.id NOT IN (SELECT id FROM review) ORDER BY anki_reschedule.id
"""


def notes(
    connection: sqlite3.Connection, notetypes: Mapping[int, Mapping[str, Any]], *, leeches: bool
) -> tuple[int, set[str]]:
    """Write the chosen notes that came from Anki; how many they are, and the files that they may name.

    Args:
        notetypes: theirs, as entries of ``models``.
        leeches: tag those of which a card is one.
    """
    media: set[str] = set()

    def sort_field(fields: str, at: int) -> str:
        media.update(foreign.named(fields))
        parts = fields.split(_FIELD_END, at + 1)
        return foreign.bare(parts[at] if at < len(parts) else parts[0])

    connection.create_function("anki_sort_field", 2, sort_field)
    connection.create_function("anki_checksum", 1, _checksum)
    sorted_by = json.dumps({number: foreign.sorted_by(entry) for number, entry in notetypes.items()})
    return connection.execute(_NOTES, {"tagged": leeches, "sorted_by": sorted_by}).rowcount, media


def cards(connection: sqlite3.Connection, decks: Collection[int], today: int) -> int:
    """Write the parts of those notes that stand as they came and lie in one of Anki's `decks`; how many they are.

    Args:
        today: the study day, on which a card may still be buried.
    """
    return connection.execute(_CARDS, {"decks": json.dumps([*decks]), "today": today}).rowcount


def reviews(connection: sqlite3.Connection) -> int:
    """Write every answer that was not taken back, and what Anki logged besides; each part must have its id."""
    return sum(connection.execute(query).rowcount for query in (_REVIEWS, _RESCHEDULES))


def _checksum(fields: str) -> int:
    return checksum(foreign.bare(fields.partition(_FIELD_END)[0]))
