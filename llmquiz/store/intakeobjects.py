"""Notes that come as objects, with schedules and answers in them: checked, encoded and staged as a large file's are.

So one merge does for both. The staging tables lie in the scratch schema.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeAlias

from llmquiz.core.schedule import State
from llmquiz.store.codec import encode_card
from llmquiz.store.content import CARDS_PER_DECK
from llmquiz.store.incoming import AnkiNote, IncomingNote, IncomingPart
from llmquiz.store.intakeanswers import answers
from llmquiz.store.intakenames import Renamer
from llmquiz.store.intakespace import SCRATCH
from llmquiz.store.soundness import Findings, Inspector
from llmquiz.store.staging import UNTOLD, StagedAnki, StagedNote, create_parts, create_reviews

_Row: TypeAlias = tuple[Any, ...]

_CHUNK = 500
_PART_COLUMNS, _REVIEW_COLUMNS = 22, 12
_ADD_PART = f"INSERT INTO {SCRATCH}.part VALUES ({', '.join('?' * _PART_COLUMNS)})"
_ADD_REVIEW = f"INSERT INTO {SCRATCH}.{{name}} VALUES ({', '.join('?' * _REVIEW_COLUMNS)})"


class Objects:
    """Stages the notes of one import."""

    def __init__(
        self, connection: sqlite3.Connection, inspector: Inspector, renamer: Renamer, findings: Findings
    ) -> None:
        self._connection = connection
        self._inspector = inspector
        self._renamer = renamer
        self._findings = findings
        self._taken: set[int] = set()  # milliseconds
        self._note = self._part = 0
        create_parts(connection, SCRATCH)
        create_reviews(connection, SCRATCH)
        self._clear()

    def _clear(self) -> None:
        self._parts: list[_Row] = []
        self._answers: list[_Row] = []
        self._late: list[_Row] = []

    def staged(self, notes: Iterable[IncomingNote]) -> Iterator[StagedNote | None]:
        """The notes, in their order; None for one that is left out."""
        iterator = iter(notes)
        while chunk := list(islice(iterator, _CHUNK)):
            staged = [self._stage(note) for note in chunk]
            self._write()
            yield from staged

    def _stage(self, given: IncomingNote) -> StagedNote | None:
        note = self._inspector.note(given)
        if note is None:
            return None
        self._note += 1
        parts = self._inspector.parts(note)
        ordinals = tuple(parts) if note.keeps_text else note.card.ordinals
        for ordinal in ordinals:
            self._stage_part(ordinal, parts.get(ordinal))
        card = self._renamer.card(note.card)
        return StagedNote(
            self._note,
            card.id,
            card.deck,
            card.topic,
            card.kind.value,
            card.level.value,
            card.frequency.value,
            self._inspector.position(note.position, CARDS_PER_DECK - 1),
            encode_card(card),
            ordinals,
            note.keeps_text,
            _foreign(note.anki) if note.anki else None,
        )

    def _stage_part(self, ordinal: int, told: IncomingPart | None) -> None:
        self._part += 1
        part = told or IncomingPart(ordinal)
        anki = (part.anki.id, part.anki.deck, part.anki.factor, part.anki.kept) if part.anki else (None,) * 4
        mark = None if told else UNTOLD
        self._parts.append((self._part, self._part, self._note, ordinal, *_columns(part), *anki, mark))
        for row in answers(part, self._part, self._inspector.latest_ms, self._findings):
            (self._late if row[0] in self._taken else self._answers).append(row)
            self._taken.add(row[0])

    def _write(self) -> None:
        many = self._connection.executemany
        many(_ADD_PART, self._parts)
        many(_ADD_REVIEW.format(name="review"), self._answers)
        many(_ADD_REVIEW.format(name="late"), self._late)
        self._clear()


def _foreign(anki: AnkiNote) -> StagedAnki:
    return (anki.id, anki.guid, anki.notetype, anki.modified, " ".join(anki.tags), "\x1f".join(anki.fields))


def _columns(part: IncomingPart) -> _Row:
    """The columns of ``part`` from `state` to `leech`."""
    schedule = part.schedule
    memory = schedule.memory
    return (
        schedule.state + 0,
        0 if schedule.state is State.NEW else schedule.due,
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
