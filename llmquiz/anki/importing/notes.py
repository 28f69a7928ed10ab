"""Anki's notes → staged notes: what is written of each is put together here, in some ten microseconds.

A note of Anki is one card here, and each of its cards a part of it with a schedule of its own. Its fields travel along
as they are: nothing is rendered, but what its templates could not show is looked for, so that it can be told.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Set
from functools import lru_cache
from typing import Any

from llmquiz.anki.archive import names
from llmquiz.anki.archive.limits import KB
from llmquiz.anki.archive.reading import Tables
from llmquiz.anki.importing import naming
from llmquiz.anki.importing.baggage import Baggage
from llmquiz.anki.importing.homes import OwnNote
from llmquiz.anki.importing.noterows import FIELD_END, FITS, NoteRow, note_rows
from llmquiz.core.card import Frequency, Kind, Level
from llmquiz.notes.template import Renderer
from llmquiz.store.codec import encode_note
from llmquiz.store.content import CARDS_PER_DECK
from llmquiz.store.staging import StagedNote

_CACHED = 10_000  # lists of ordinals
_SHOWN = 3  # names in a finding
_NO_PLACE = 1e15
_NUMBERS = (int, float)
_NOTE, _OPEN = Kind.NOTE.value, Kind.OPEN.value
_LEVEL, _FREQUENCY = Level.L1.value, Frequency.MEDIUM.value
_HERE = "here each lies in the deck of its first card; an export to Anki puts every card back"
_NO_TYPE = "left out, its note type is not there"
_MISFIT = "left out, a column has a value that no Anki writes"
# A note lies where its first card does.
_HOMES = "SELECT note, group_concat(ordinal), anki_deck, place, min(ordinal) FROM home GROUP BY note ORDER BY note"
_SCATTERED = """
SELECT count(*) FROM (SELECT 1 FROM home WHERE NOT own GROUP BY note HAVING min(anki_deck) <> max(anki_deck))
"""
_KNOWN = "mid IN (SELECT value FROM json_each(?))"
_MISFITS = f"SELECT count(*), min(id) FROM notes NOT INDEXED WHERE {FITS} IS NOT 1"
_WITHOUT_TYPE = f"SELECT count(*), min(id) FROM notes NOT INDEXED WHERE {FITS} AND NOT {_KNOWN}"
_WITHOUT_CARDS = f"""
SELECT count(*) FROM notes NOT INDEXED WHERE {FITS} AND {_KNOWN} AND id NOT IN (SELECT note FROM home)
"""


class Notes:
    """The notes whose cards have a ``home``, once.

    Args:
        own: those that llmquiz exported, by id.
        most: bytes of a field; a note with a longer one is left out.
    """

    def __init__(self, tables: Tables, baggage: Baggage, own: Mapping[int, OwnNote], *, most: int) -> None:
        self._tables = tables
        self._own = own
        self._most = most
        self._slugs = baggage.slugs
        self._deck_names = {number: deck.name for number, deck in baggage.decks.items()}
        self._renderers: dict[int, Renderer] = {}
        self._named: set[str] = set()
        self._count = self._parts = self._misplaced = 0
        self._too_long: list[int] = []

    def __iter__(self) -> Iterator[StagedNote]:
        """The notes in the order of their ids."""
        own = self._own
        homes = self._tables.source.rows(_HOMES)
        home = next(homes, None)
        for row in note_rows(self._tables.source, self._tables.notetypes.keys()):
            while home is not None and home[0] < row.number:
                home = next(homes, None)
            if home is None or home[0] != row.number:
                continue
            note = self._ours(row.number, home) if row.number in own else self._theirs(row, home)
            if note is not None:
                self._parts += len(note.ordinals)
                yield note

    def told(self, media: Set[str]) -> list[str]:
        """What was found on the way, once all notes were read.

        Args:
            media: the names of the files that came along.
        """
        lines: list[str] = []
        for renderer in self._renderers.values():
            lines += sorted(renderer.findings)
        present = {name for name in self._named if name in media or naming.decoded(name) in media}
        missing = self._named - present
        unnamed = media - self._named - {naming.decoded(name) for name in self._named}
        (parts,) = self._tables.source.row("SELECT count(*) FROM home") or (0,)
        (scattered,) = self._tables.source.row(_SCATTERED) or (0,)
        counted = (
            (scattered, f"notes have cards in several decks: {_HERE}"),
            (self._left_out(lines), "notes have no cards; left out"),
            (parts - self._parts, "cards have no note; left out"),
            (len(missing), f"pictures or sounds are named but not in the file: {_some(missing)}"),
            (sum(name[:1] != "_" for name in unnamed), "pictures or sounds are named by no note; kept all the same"),
        )
        lines += [f"{number:,} {what}" for number, what in counted if number]
        if self._misplaced:
            lines.append(f"places of notes in their decks out of range, brought into it: {self._misplaced:,}")
        return lines

    def _ours(self, number: int, home: tuple[Any, ...]) -> StagedNote:
        """A card that llmquiz exported: its text is ours."""
        self._count += 1
        card = self._own[number].card
        place, ordinals = min(self._count, CARDS_PER_DECK - 1), _ordinals(home[1])
        return StagedNote(number, card, "", card, _OPEN, _LEVEL, _FREQUENCY, place, "", ordinals, keeps_text=True)

    def _theirs(self, row: NoteRow, home: tuple[Any, ...]) -> StagedNote | None:
        number, guid, notetype_id, modified, (tags, kept, topic), flds, card, lang, named, harmless = row
        _, listed, deck_id, place, _ = home
        renderer = self._renderers.get(notetype_id) or self._met(notetype_id)
        fields = flds.split(FIELD_END)
        if len(fields) != len(renderer.fields):
            fields = _fitted(fields, len(renderer.fields))
            flds = FIELD_END.join(fields)
        if len(flds) * 4 > self._most and any(len(field.encode()) > self._most for field in fields):
            self._too_long.append(number)
            return None
        self._count += 1
        ordinals = _ordinals(listed)
        renderer.look(fields, ordinals, tags=tags, deck=self._deck_names.get(deck_id, ""), harmless=harmless)
        if named:
            self._named |= named
        slug = self._slugs[deck_id]
        topic = topic or slug
        content = encode_note(card, slug, topic, lang, ordinals, kept)
        anki = number, guid, notetype_id, modified, tags, flds
        return StagedNote(
            number, card, slug, topic, _NOTE, _LEVEL, _FREQUENCY, self._place(place), content, ordinals, False, anki
        )

    def _met(self, notetype_id: int) -> Renderer:
        made = self._renderers[notetype_id] = Renderer(self._tables.notetypes[notetype_id])
        return made

    def _place(self, told: Any) -> int:
        """The note's place in its deck: where its first card stood, or stands, in Anki's queue of new cards."""
        place = self._count
        if isinstance(told, _NUMBERS) and abs(told) < _NO_PLACE:
            place = int(told)
        if 0 <= place < CARDS_PER_DECK:
            return place
        self._misplaced += 1
        return min(max(place, 0), CARDS_PER_DECK - 1)

    def _left_out(self, lines: list[str]) -> int:
        """How many notes have no cards; what else kept notes out is told."""
        tables, tally = self._tables, names.Tally(lines)
        if self._too_long:
            problem = f"left out, a field has more than {self._most // KB:,} KiB (limits.field_kb)"
            tally.add(problem, f"note {self._too_long[0]}", len(self._too_long))
        without_cards = 0
        if self._count + len(self._too_long) < tables.counts[0]:
            known = (json.dumps([*tables.notetypes]),)
            for problem, sql, parameters in ((_MISFIT, _MISFITS, ()), (_NO_TYPE, _WITHOUT_TYPE, known)):
                count, first = tables.source.row(sql, parameters) or (0, 0)
                if count:
                    tally.add(problem, f"note {first}", count)
            (without_cards,) = tables.source.row(_WITHOUT_CARDS, known) or (0,)
        tally.flush()
        return without_cards


@lru_cache(maxsize=_CACHED)
def _ordinals(listed: str) -> tuple[int, ...]:
    return tuple(sorted(map(int, listed.split(","))))


def _fitted(fields: list[str], count: int) -> list[str]:
    """As many fields as the note type has: missing ones are empty, surplus ones join the last, as in Anki."""
    if len(fields) > count:
        return [*fields[: count - 1], "; ".join(fields[count - 1 :])]
    return fields + [""] * (count - len(fields))


def _some(found: Set[str]) -> str:
    shown = sorted(map(naming.safe, found))[:_SHOWN]
    return ", ".join(shown) + (", …" if len(found) > _SHOWN else "")
