"""Another program's answers into the log, each once.

An answer is known by its card and its millisecond, so that a second import finds it again. Two cards may have been
answered in one millisecond by different programs: the later comer gets the next free one, where a repeated import finds
it by its content. An answer that was taken back here stays taken back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from operator import itemgetter
from typing import Any, TypeAlias

from llmquiz.core.day import Calendar
from llmquiz.core.schedule import State
from llmquiz.store.incoming import IncomingReview
from llmquiz.store.soundness import MOST, Findings

_Row: TypeAlias = tuple[Any, ...]

BUFFERED = 50_000
"""Answers that are gathered before they are written: some fifteen megabytes."""

_FARTHEST = 32  # milliseconds; nobody answers so many cards at once
_EARLIEST_MS = 2 * 86_400_000
_END = (float("inf"), 0)
_REVIEW = int(State.REVIEW)
_CENTURY_SECONDS = 36_500 * 86_400


@dataclass(frozen=True, slots=True)
class _Table:
    """A log: its columns after `id` and `schedule`, and how many of the last ones tell one answer from another."""

    name: str
    columns: tuple[str, ...]
    telling: tuple[str, ...]

    @property
    def insert(self) -> str:
        names = ("id", "schedule", *self.columns)
        return f"INSERT INTO {self.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"


_ANSWERS = _Table(
    "review",
    ("day", "rating", "state", "interval", "last_interval", "stability", "difficulty", "retrievability", "duration_ms",
     "anki_type", "anki_factor"),
    ("rating", "state", "interval", "last_interval", "duration_ms", "anki_type", "anki_factor"),
)  # fmt: skip
_RESCHEDULED = ("interval", "last_interval", "factor", "duration_ms", "type")
_CHANGES = _Table("anki_reschedule", _RESCHEDULED, _RESCHEDULED)


class IncomingLog:
    """Gathers answers and writes them in the order of their time: appending is what SQLite does fastest."""

    def __init__(self, connection: sqlite3.Connection, calendar: Calendar, latest: float, findings: Findings) -> None:
        """`latest`: Unix seconds; an answer from after it is left out."""
        self._connection = connection
        self._calendar = calendar
        self._latest_ms = int(latest * 1000)
        self._findings = findings
        self._gathered: list[tuple[int, int, IncomingReview]] = []
        self.reviews_added = 0
        self.others_added = 0

    def add(self, schedule: int, reviews: Sequence[IncomingReview]) -> None:
        """All answers to one part of a card, in any order."""
        self._gathered += [(review[0], schedule, review) for review in reviews]

    def flush(self, *, at_least: int = 0) -> None:
        """Write what was gathered, if it is so much; the parts must have been written."""
        if len(self._gathered) < at_least:
            return
        gathered, self._gathered = self._gathered, []
        gathered.sort(key=itemgetter(0))
        answers, changes = self._rows(gathered)
        self.reviews_added += self._append(_ANSWERS, answers)
        self.others_added += self._append(_CHANGES, changes)

    def _rows(self, gathered: list[tuple[int, int, IncomingReview]]) -> tuple[list[_Row], list[_Row]]:
        """Rows of `review` and of `anki_reschedule`. Sorted, so that the study day is asked for but once a day."""
        answers: list[_Row] = []
        changes: list[_Row] = []
        answered_on: dict[int, int] = {}  # part -> study day of its last answer
        day = first_ms = end_ms = 0
        latest = self._latest_ms
        for at, schedule, review in gathered:
            if not _EARLIEST_MS <= at <= latest or not _is_sound(*review):
                mended = self._mended(review)
                if mended is None:
                    continue
                review = mended
            _, rating, state, interval, last_interval, duration, stability, difficulty, kind, factor = review
            if not rating:
                changes.append(
                    (at, schedule, interval, last_interval, factor or 0, duration, 4 if kind is None else kind)
                )
                continue
            if not first_ms <= at < end_ms:
                day, first_ms, end_ms = study_day(self._calendar, at)
            # As in our own log: recall is certain, and tells nothing, on the day of another answer.
            recall = 1.0 if state == _REVIEW and answered_on.get(schedule) == day else None
            answered_on[schedule] = day
            answers.append(
                (at, schedule, day, rating + 0, state + 0, interval, last_interval, stability, difficulty, recall,
                 duration, kind, factor)
            )  # fmt: skip
        return answers, changes

    def _mended(self, review: IncomingReview) -> IncomingReview | None:
        """The answer with its numbers in range; None if it cannot have been given."""
        if not isinstance(review.id, int) or not _EARLIEST_MS <= review.id <= self._latest_ms:
            self._findings.count("answers dated in the future or before 1970, left out")
            return None
        if review.rating not in range(5) or review.state not in range(4):
            self._findings.count("answers with an unknown rating or state, left out")
            return None
        numbers = (review.interval, review.last_interval, review.duration_ms)
        if not all(isinstance(number, int) for number in numbers):
            self._findings.count("answers with intervals that are no numbers, left out")
            return None
        if _is_sound(*review):
            return review
        self._findings.count("answers with numbers out of range, brought into it")
        known = _is_memory(review)
        return review._replace(
            rating=int(review.rating),
            interval=_bounded(review.interval, -_CENTURY_SECONDS, _CENTURY_SECONDS),
            last_interval=_bounded(review.last_interval, -_CENTURY_SECONDS, _CENTURY_SECONDS),
            duration_ms=_bounded(review.duration_ms, 0, MOST),
            stability=review.stability if known else 0.0,
            difficulty=review.difficulty if known else 0.0,
            type=_small(review.type),
            factor=_small(review.factor),
        )

    def _append(self, table: _Table, rows: list[_Row]) -> int:
        """Add to `table` what it lacks of `rows`, which are in the order of their ids; returns how many."""
        fresh, clashing = self._lacking(table, rows)
        self._connection.executemany(table.insert, fresh)
        return len(fresh) + (self._append_clashing(table, clashing, rows) if clashing else 0)

    def _lacking(self, table: _Table, rows: list[_Row]) -> tuple[list[_Row], list[_Row]]:
        """Rows that can be added as they are, and those whose id is taken by another part's."""
        fresh: list[_Row] = []
        clashing: list[_Row] = []
        stored = self._stored(table, rows)
        taken, owner = next(stored, _END)
        last: _Row = (None, None)
        for row in rows:
            at = row[0]
            while taken < at:
                taken, owner = next(stored, _END)
            if taken == at:
                if owner != row[1]:
                    clashing.append(row)
            elif last[0] == at:
                if last[1] != row[1]:
                    clashing.append(row)
            else:
                fresh.append(row)
                last = row
        return fresh, clashing

    def _stored(self, table: _Table, rows: list[_Row]) -> Iterator[tuple[float, int]]:
        sql = f"SELECT id, schedule FROM {table.name} WHERE id BETWEEN ? AND ? ORDER BY id"
        return self._connection.execute(sql, (rows[0][0], rows[-1][0])) if rows else iter(())

    def _append_clashing(self, table: _Table, clashing: list[_Row], rows: list[_Row]) -> int:
        parts = {row[1] for row in clashing}
        own = {row[:2] for row in rows if row[1] in parts}  # answers that stand at their own millisecond
        columns = ("id", "schedule", *table.columns)
        told = [columns.index(name) for name in table.telling]
        find = f"SELECT schedule, {', '.join(table.telling)} FROM {table.name} WHERE id = ?"
        claimed: set[int] = set()
        added = 0
        for row in clashing:
            wanted = (row[1], *(row[place] for place in told))
            for at in range(row[0] + 1, row[0] + 1 + _FARTHEST):
                stored = self._connection.execute(find, (at,)).fetchone()
                if stored is None:
                    self._connection.execute(table.insert, (at, *row[1:]))
                    added += 1
                elif at in claimed or (at, row[1]) in own or stored != wanted:
                    continue
                claimed.add(at)
                break
            else:
                self._findings.count("answers given in the same moment as many others, left out")
        return added


def study_day(calendar: Calendar, at_ms: int) -> tuple[int, int, int]:
    """The study day of an instant, and the milliseconds of its start and of the next day's.

    Where a clock is put back over the rollover hour a day is not one piece; then the piece is the instant alone.
    """
    day = calendar.day(at_ms / 1000)
    start, end = calendar.start(day), calendar.start(day + 1)
    one_piece = all(calendar.day(start + minutes * 60) == day for minutes in (0, 30, 60, 90, 120))
    if one_piece and start * 1000 <= at_ms < end * 1000 and calendar.day(end - 1) == day:
        return day, int(start * 1000), int(end * 1000)
    return day, at_ms, at_ms + 1


def _is_sound(
    _: int,
    rating: int,
    state: int,
    interval: int,
    last_interval: int,
    duration: int,
    stability: float,
    difficulty: float,
    kind: int | None,
    factor: int | None,
) -> bool:
    return (
        0 <= rating <= 4
        and 0 <= state <= 3
        and interval.__class__ is last_interval.__class__ is duration.__class__ is int
        and -_CENTURY_SECONDS <= interval <= _CENTURY_SECONDS
        and -_CENTURY_SECONDS <= last_interval <= _CENTURY_SECONDS
        and 0 <= duration <= MOST
        and (stability == difficulty == 0 or (0 < stability <= 36_500 and 1 <= difficulty <= 10))
        and (kind is None or 0 <= kind <= MOST)
        and (factor is None or 0 <= factor <= MOST)
    )


def _is_memory(review: IncomingReview) -> bool:
    return isfinite(review.stability) and 0 < review.stability <= 36_500 and 1 <= review.difficulty <= 10


def _bounded(number: int, lowest: int, highest: int) -> int:
    return min(max(number, lowest), highest)


def _small(number: int | None) -> int | None:
    return None if number is None or not isinstance(number, int) else _bounded(number, 0, MOST)
