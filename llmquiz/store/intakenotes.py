"""The notes of an import, a chunk at a time: new ones are written, known ones compared with what the store has.

A known note's text follows the other program, for here nobody edits it: the newer change stands. What is to become of
a note's parts is left in a table of the scratch schema, for `llmquiz.store.intakeparts`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from llmquiz.store.content import CARDS_PER_DECK, ranks
from llmquiz.store.intakedecks import Decks
from llmquiz.store.intakenames import Renamer
from llmquiz.store.intakespace import SCRATCH
from llmquiz.store.intakewords import postpone
from llmquiz.store.soundness import Findings
from llmquiz.store.staging import StagedNote

_Row: TypeAlias = tuple[Any, ...]
_json = json.JSONEncoder(ensure_ascii=False).encode

# Of a note that came in: its card, and the place of a new part in the queue. `known`: the store has the card already;
# then new parts are added only if the note is the `newest`, and what is `own` keeps nothing of Anki's.
_TAKEN = f"""CREATE TABLE {SCRATCH}.taken (
  note INTEGER PRIMARY KEY, card TEXT NOT NULL, place INTEGER NOT NULL,
  known INTEGER NOT NULL, newest INTEGER NOT NULL, own INTEGER NOT NULL
) STRICT"""
_TAKE = f"INSERT INTO {SCRATCH}.taken VALUES (?, ?, ?, ?, ?, ?)"
_STORED = """
SELECT card.id, number, deck, card.position, content, card.archived_at IS NOT NULL, deck.origin IS NOT NULL, modified,
  fields
FROM card JOIN deck ON deck.id = card.deck LEFT JOIN anki_note ON anki_note.card = card.id WHERE card.id IN ({marks})
"""
# A card that no file owns needs no digest: it is compared with what the store has of it.
_ADD = """
INSERT INTO card (number, id, deck, topic, kind, level, frequency, position, digest, added_at, changed_at, content)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, '', ?9, ?9, ?10)
"""
_CHANGE = """
UPDATE card SET deck = ?2, topic = ?3, kind = ?4, level = ?5, frequency = ?6, position = ?7, digest = '',
changed_at = coalesce(?8, changed_at), content = ?9, archived_at = NULL WHERE number = ?1
"""
_ADD_NOTE = "INSERT INTO anki_note VALUES (?, ?, ?, ?, ?, ?, ?)"
_WRITE_NOTE = "INSERT OR REPLACE INTO anki_note VALUES (?, ?, ?, ?, ?, ?, ?)"
# As for a deck of ours: a part that is gone is retired; if it comes back, so does its history.
_RETIRE = """UPDATE schedule SET retired = NOT retired
WHERE card = ? AND retired = (ordinal IN (SELECT value FROM json_each(?)))"""


class _Stored(NamedTuple):
    """A card as the store has it; `foreign` if its deck is no file's. The last two are of Anki's note, if it is one."""

    id: str
    number: int
    deck: str
    position: int
    content: str
    archived: bool
    foreign: bool
    modified: int | None
    fields: str | None


class _Home(NamedTuple):
    """A deck in the store, and the place in the queue of its first card."""

    id: str
    place: int


class Notes:
    """Takes in the notes of one import, in the transaction that the caller holds.

    Attributes:
        added, changed, unchanged: how many notes are new, are not as they were, and are.
        known: whether the store had any of them.
    """

    def __init__(
        self, connection: sqlite3.Connection, decks: Decks, renamer: Renamer, findings: Findings, at: int
    ) -> None:
        """`at`: Unix seconds that are written as the time of the change."""
        self._connection = connection
        self._decks = decks
        self._renamer = renamer
        self._findings = findings
        self._at = at
        self._homes: dict[str, _Home] = {}
        self._seen: set[str] = set()
        self._reworded: list[int] = []
        self._first = self._next = _next_number(connection)
        self.added = self.changed = self.unchanged = 0
        self.known = False
        connection.execute(_TAKEN)
        self._clear()

    def _clear(self) -> None:
        self._cards: list[_Row] = []
        self._changes: list[_Row] = []
        self._retired: list[tuple[str, str]] = []
        self._foreign: list[_Row] = []
        self._foreign_changes: list[_Row] = []
        self._taken: list[_Row] = []

    def take(self, notes: Sequence[StagedNote]) -> None:
        """Write some notes, a few hundred at a time."""
        here = self._stored(notes) if self._first > 1 else {}
        for note in notes:
            if note.card in self._seen and not note.keeps_text:
                self._findings.count("notes that came twice, left out the second time")
                continue
            self._seen.add(note.card)
            was = here.get(note.card)
            if note.keeps_text or (was and not was.foreign and not was.archived):
                self._take_progress(note, was)
            elif was is None:
                self._add(note)
            else:
                self._compare(note, was)
        self._write()

    def postpone_index(self) -> None:
        """Let a search find later what was written."""
        postpone(self._connection, range(self._first, self._next), self._reworded)

    def _stored(self, notes: Sequence[StagedNote]) -> Mapping[str, _Stored]:
        sql = _STORED.format(marks=", ".join("?" * len(notes)))
        return {row[0]: _Stored(*row) for row in self._connection.execute(sql, [note.card for note in notes])}

    def _take_progress(self, note: StagedNote, was: _Stored | None) -> None:
        if was is None:
            self._findings.count("cards of llmquiz that no deck has any more, left out")
            return
        self.unchanged += 1
        self.known = True
        self._taken.append((note.number, note.card, 0, 1, 0, 1))

    def _add(self, note: StagedNote) -> None:
        number, card, deck, topic, kind, level, frequency, position, content, _, _, anki = note
        home = self._home(deck)
        if anki:
            if self._renamer.renames:
                anki = self._renamer.anki(anki)
            self._foreign.append((card, *anki))
        content = _in_deck(content, deck, home.id)
        self._cards.append((self._next, card, home.id, topic, kind, level, frequency, position, self._at, content))
        self._taken.append((number, card, home.place + position, 0, 1, 0))
        self._next += 1
        self.added += 1

    def _compare(self, note: StagedNote, was: _Stored) -> None:
        home, position = self._home(note.deck), note.position
        anki = note.anki and self._renamer.anki(note.anki)
        modified = anki[3] if anki else None
        content = _in_deck(note.content, note.deck, was.deck)
        differs = content != was.content or (anki is not None and anki[5] != was.fields)
        newest = was.archived or modified is None or was.modified is None or modified >= was.modified
        text = newest and (differs or was.archived)
        place = newest and (home.id, position) != (was.deck, was.position)
        note_row = newest and anki is not None and (text or modified != was.modified)
        if text or place:
            content = _in_deck(note.content, note.deck, home.id)
            facts = (note.topic, note.kind, note.level, note.frequency)
            self._changes.append((was.number, home.id, *facts, position, self._at if differs else None, content))
        if differs and text:
            self._reworded.append(was.number)
        if note_row and anki:
            self._foreign_changes.append((note.card, *anki))
        if text:
            self._retired.append((note.card, str(list(note.ordinals))))
        if text or place or note_row:
            self.changed += 1
        else:
            self.unchanged += 1
        self.known = True
        self._taken.append((note.number, note.card, home.place + position, 1, int(newest), 0))

    def _home(self, deck: str) -> _Home:
        home = self._homes.get(deck)
        if home is None:
            found = self._decks.id_of(deck)
            home = self._homes[deck] = _Home(found, ranks(self._connection)[found] * CARDS_PER_DECK)
        return home

    def _write(self) -> None:
        """Write all rows that wait, parents before children."""
        many = self._connection.executemany
        for sql, rows in self._waiting():
            if rows:
                many(sql, rows)
        self._clear()

    def _waiting(self) -> Iterable[tuple[str, Sequence[_Row]]]:
        return (
            (_ADD, self._cards),
            (_CHANGE, self._changes),
            (_RETIRE, self._retired),
            (_ADD_NOTE, self._foreign),
            (_WRITE_NOTE, self._foreign_changes),
            (_TAKE, self._taken),
        )


def _in_deck(content: str, deck: str, other: str) -> str:
    """The content of a card that was encoded in `deck`, as it is in the deck `other`."""
    if deck == other:
        return content
    before, _, after = content.partition(f'"deck":{_json(deck)},')
    return f'{before}"deck":{_json(other)},{after}'


def _next_number(connection: sqlite3.Connection) -> int:
    number: int = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM card").fetchone()[0]
    return number
