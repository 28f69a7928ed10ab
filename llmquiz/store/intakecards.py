"""The rows of imported notes: what the store has of them, and what is to be written, a chunk at a time."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from llmquiz.core.card import Card
from llmquiz.core.schedule import Schedule
from llmquiz.store import log
from llmquiz.store.codec import encode_card
from llmquiz.store.incoming import AnkiCard, AnkiNote, IncomingPart
from llmquiz.store.intakewords import postpone

_json = json.JSONEncoder(ensure_ascii=False).encode

Row: TypeAlias = tuple[Any, ...]

_STORED = """
SELECT card.id, number, deck, card.position, digest, card.archived_at IS NOT NULL, deck.origin IS NOT NULL, modified
FROM card JOIN deck ON deck.id = card.deck LEFT JOIN anki_note ON anki_note.card = card.id WHERE card.id IN ({marks})
"""
_PARTS = f"""
SELECT {log.COLUMNS}, anki_card.id, deck, factor, kept
FROM schedule LEFT JOIN anki_card ON anki_card.schedule = schedule.id WHERE card IN ({{marks}})
"""
_ADD_CARD = """
INSERT INTO card (number, id, deck, topic, kind, level, frequency, position, digest, added_at, changed_at, content)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_CHANGE_CARD = """
UPDATE card SET deck = ?2, topic = ?3, kind = ?4, level = ?5, frequency = ?6, position = ?7,
changed_at = iif(digest = ?8, changed_at, ?9), digest = ?8, content = ?10, archived_at = NULL WHERE number = ?1
"""
_ADD_PART = f"INSERT INTO schedule VALUES ({', '.join('?' * log.WIDTH)})"
_CHANGE_PART = """
UPDATE schedule SET state = ?, due = ?, interval = ?, steps_left = ?, stability = ?, difficulty = ?, last_review = ?,
reps = ?, lapses = ?, suspended = ?, buried_on = ?, flag = ?, leech = ? WHERE id = ?
"""
_WRITE_NOTE = "INSERT OR REPLACE INTO anki_note VALUES (?, ?, ?, ?, ?, ?, ?)"
_WRITE_CARD = "INSERT OR REPLACE INTO anki_card VALUES (?, ?, ?, ?, ?)"


@dataclass(slots=True)
class Stored:
    """A card as the store has it.

    Attributes:
        foreign: its deck is no file's.
        modified: when its content changed in Anki, Unix seconds; None if it is no note of Anki's.
        parts: by ordinal, the columns of `log.COLUMNS` and of `anki_card`.
    """

    number: int
    deck: str
    position: int
    digest: str
    archived: bool
    foreign: bool
    modified: int | None
    parts: dict[int, Row] = field(default_factory=dict)


def stored(connection: sqlite3.Connection, card_ids: Sequence[str]) -> dict[str, Stored]:
    """What the store has of these cards, by id; at most a thousand at a time."""
    found = {
        row[0]: Stored(row[1], row[2], row[3], row[4], bool(row[5]), bool(row[6]), row[7])
        for row in _select(connection, _STORED, card_ids)
    }
    for row in _select(connection, _PARTS, list(found)):
        found[row[1]].parts[row[2]] = row
    return found


def encoded(card: Card, deck: str) -> tuple[str, str]:
    """The card as it is stored in `deck`, and its fingerprint; as `codec.digest`, but encoding it once."""
    from hashlib import blake2b

    before, _, after = encode_card(card).partition(f'"deck":{_json(card.deck)},')
    digest = blake2b((before + after).encode(), digest_size=16).hexdigest()
    return f'{before}"deck":{_json(deck)},{after}', digest


def progress_columns(part: IncomingPart, due: int) -> Row:
    """The columns of `schedule` from `state` to `leech`."""
    schedule: Schedule = part.schedule
    memory = schedule.memory
    return (
        schedule.state + 0,
        due,
        schedule.interval,
        schedule.steps_left,
        memory.stability if memory else None,
        memory.difficulty if memory else None,
        schedule.last_review,
        schedule.reps,
        schedule.lapses,
        int(part.suspended),
        part.buried_on,
        part.flag,
        int(part.leech),
    )


class Chunk:
    """Rows that wait to be written. Numbers are given out here, so that no row must be asked for its own."""

    def __init__(self, connection: sqlite3.Connection, at: int) -> None:
        """`at`: Unix seconds that are written as the time of the change."""
        self._connection = connection
        self._at = at
        self._first_card = self._next_card = _next(connection, "number", "card")
        self._next_part = _next(connection, "id", "schedule")
        self._reworded: list[int] = []
        self._clear()

    def _clear(self) -> None:
        self._cards: list[Row] = []
        self._changed: list[Row] = []
        self._parts: list[Row] = []
        self._progress: list[Row] = []
        self._retired: list[tuple[int, int]] = []
        self._notes: list[Row] = []
        self._foreign_cards: list[Row] = []

    def add_card(self, card: Card, deck: str, position: int, digest: str, content: str) -> None:
        """A card that the store lacks."""
        facts = (card.topic, card.kind.value, card.level.value, card.frequency.value)
        number, self._next_card = self._next_card, self._next_card + 1
        self._cards.append((number, card.id, deck, *facts, position, digest, self._at, self._at, content))

    def change_card(self, card: Card, was: Stored, deck: str, position: int, digest: str, content: str) -> None:
        """New text for a card, or a new place."""
        facts = (card.topic, card.kind.value, card.level.value, card.frequency.value)
        self._changed.append((was.number, deck, *facts, position, digest, self._at, content))
        if was.digest != digest:
            self._reworded.append(was.number)

    def add_part(self, card_id: str, ordinal: int, columns: Row) -> int:
        """A schedule for a part that the store lacks; returns its id."""
        part, self._next_part = self._next_part, self._next_part + 1
        self._parts.append((part, card_id, ordinal, *columns, 0))
        return part

    def change_part(self, part: int, columns: Row) -> None:
        """Another schedule for a part."""
        self._progress.append((*columns, part))

    def retire_part(self, part: int, retired: bool) -> None:
        """A part that its card has lost, or has again."""
        self._retired.append((int(retired), part))

    def write_note(self, card_id: str, note: AnkiNote) -> None:
        """What Anki wants back of a note."""
        tags, fields = " ".join(note.tags), "\x1f".join(note.fields)
        self._notes.append((card_id, note.id, note.guid, note.notetype, note.modified, tags, fields))

    def write_card(self, part: int, card: AnkiCard) -> None:
        """What Anki wants back of a card."""
        self._foreign_cards.append((part, card.id, card.deck, card.factor, card.kept))

    def write(self) -> None:
        """Write all rows, parents before children."""
        many = self._connection.executemany
        many(_ADD_CARD, self._cards)
        many(_CHANGE_CARD, self._changed)
        many(_ADD_PART, self._parts)
        many(_CHANGE_PART, self._progress)
        many("UPDATE schedule SET retired = ? WHERE id = ?", self._retired)
        many(_WRITE_NOTE, self._notes)
        many(_WRITE_CARD, self._foreign_cards)
        self._clear()

    def postpone_index(self) -> None:
        """Let a search find later what was written."""
        postpone(self._connection, range(self._first_card, self._next_card), self._reworded)


def _select(connection: sqlite3.Connection, sql: str, ids: Sequence[str]) -> list[Row]:
    return connection.execute(sql.format(marks=", ".join("?" * len(ids))), ids).fetchall() if ids else []


def _next(connection: sqlite3.Connection, column: str, table: str) -> int:
    number: int = connection.execute(f"SELECT coalesce(max({column}), 0) + 1 FROM {table}").fetchone()[0]
    return number
