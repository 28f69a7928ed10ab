"""What the columns of one of Anki's cards mean, said once more and one card at a time: the import does it by SQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from llmquiz.anki.archive.records import ReviewRow
from llmquiz.anki.exporting import progress
from llmquiz.anki.importing.sm2 import Recaller, is_answer
from llmquiz.core.day import Calendar

_NEW, _LEARNING, _REVIEW, _RELEARNING = range(4)
_STEPS = (_LEARNING, _RELEARNING)
_DAY_LEARNING, _SUSPENDED, _BURIED = 3, -1, (-2, -3)
_FIRST_INSTANT, _LAST_INSTANT = 1_000_000_000, 32_503_680_000
_FIRST_DAY, _LAST_DAY = 719_165, 1_095_000
_CENTURY, _MOST, _DAY = 36_500, 1_000_000, 86_400


class CardRow(NamedTuple):
    """A row of ``cards``, in the order of Anki's columns."""

    id: int
    note: int
    deck: int
    ordinal: int
    modified: int
    type: int
    queue: int
    due: int
    interval: int
    factor: int
    reps: int
    lapses: int
    left: int
    original_due: int
    original_deck: int
    flags: int
    data: str


class Reference:
    """Reads the cards of a collection.

    Args:
        created_at: Unix seconds at which its day 0 starts; `minutes_west`: of UTC its clock was then, None if unknown.
        now: Unix seconds.
    """

    def __init__(self, created_at: int, minutes_west: int | None, calendar: Calendar, now: float) -> None:
        self._calendar = calendar
        self._now = now
        self._recaller = Recaller((), calendar)
        if minutes_west is None:
            self._day0 = calendar.day(_instant(created_at))
        else:
            there = datetime.fromtimestamp(created_at, UTC) - timedelta(minutes=minutes_west)
            self._day0 = there.date().toordinal()

    def part(self, row: CardRow, log: Sequence[ReviewRow]) -> dict[str, Any]:
        """The columns of the staged part, `kept` as its object, and under ``mended`` if numbers were out of range."""
        deck, kind, queue, due = at_home(row)
        part = {
            "number": row.id,
            "note": row.note,
            "ordinal": row.ordinal,
            "state": kind,
            "reps": _count(row.reps),
            "lapses": _count(row.lapses),
            "suspended": int(queue == _SUSPENDED),
            "buried_on": self._calendar.day(_instant(row.modified)) if queue in _BURIED else None,
            "flag": row.flags & 7,
            "leech": 0,
            "anki_id": row.id,
            "anki_deck": deck,
            "factor": row.factor,
            **self._schedule(row, log, (deck, kind, queue, due)),
        }
        return part | {"kept": self._kept(row, kind, queue, due, part)}

    def _schedule(self, row: CardRow, log: Sequence[ReviewRow], home: tuple[int, int, int, int]) -> dict[str, Any]:
        _, kind, queue, due = home
        nothing = dict.fromkeys(("interval", "steps_left"), 0) | dict.fromkeys(
            ("stability", "difficulty", "last_review")
        )
        if kind == _NEW:
            return nothing | {"due": _count(due), "mended": False}
        stability, difficulty, last_review, _ = told(row.data)
        at = self._day(due) if kind == _REVIEW else self._step(queue, due)
        if stability is None:
            memory = self._recaller.memory(log, row.factor, row.interval)
            stability, difficulty = memory.stability, memory.difficulty
        interval = min(_count(row.interval), _CENTURY)
        if last_review is None:
            last_review = self._last_answer(kind, at, interval, row.modified, log)
        most = self._calendar.day(self._now) + _CENTURY if kind == _REVIEW else int(self._now) + _CENTURY * _DAY
        known = 0 < last_review <= self._now + _DAY
        mended = not known or at > most or row.interval > _CENTURY
        at = min(at, most)
        if not known:
            guess = self._calendar.start(max(at - interval, _FIRST_DAY)) if kind == _REVIEW else float(at)
            last_review = min(max(guess, 1.0), self._now)
        return {
            "due": at,
            "interval": interval,
            "steps_left": row.left % 1000 if kind in _STEPS else 0,
            "stability": stability,
            "difficulty": difficulty,
            "last_review": last_review,
            "mended": mended,
        }

    def _day(self, due: int) -> int:
        return min(max(self._day0 + due, _FIRST_DAY), _LAST_DAY)

    def _step(self, queue: int, due: int) -> int:
        if queue != _DAY_LEARNING and due >= _FIRST_INSTANT:
            return int(_instant(due))
        return int(self._calendar.start(self._day(due)))

    def _last_answer(self, kind: int, at: int, interval: int, modified: int, log: Sequence[ReviewRow]) -> float:
        answers = [_instant(it.id / 1000) for it in log if is_answer(it)]
        if answers:
            return answers[-1]
        if kind == _REVIEW:
            day = min(at - interval, self._calendar.day(_instant(modified)))
            return self._calendar.start(max(day, _FIRST_DAY)) + _DAY / 2
        return min(_instant(modified), float(at))

    def _kept(self, row: CardRow, kind: int, queue: int, due: int, part: dict[str, Any]) -> dict[str, Any]:
        if queue < 0 and kind in _STEPS and due < _FIRST_INSTANT:
            queue, due = (queue, self._step(queue, due)) if queue == _SUSPENDED else (_DAY_LEARNING, due)
        if progress.counts_days(kind, queue):
            due += self._day0 - progress.CREATED_ON
        columns = (kind, queue, due, row.interval, row.reps, row.lapses, row.left, row.flags, row.data)
        names = (name for name in progress.CardState._fields if name != "factor")
        was = [part[name] for name in ("due", "stability", "difficulty", "last_review", "reps")]
        kept = dict(zip(names, columns, strict=True)) | {"was": [0, *was[1:]] if kind == _NEW else was}
        if row.original_deck and row.queue >= 0 and row.type == kind:
            kept["lent"] = self._lent(row)
        return kept

    def _lent(self, row: CardRow) -> list[int]:
        """The filtered deck, what is due there and at home, and the queue; days as an import of Anki's moves them."""
        later = self._day0 - progress.CREATED_ON
        due = row.due + later * (row.queue in (_REVIEW, _DAY_LEARNING) or row.type == _REVIEW)
        home_due = row.original_due + later * (row.original_due != 0 and row.type == _REVIEW)
        return [row.deck, due, home_due, row.queue]


def at_home(row: CardRow) -> tuple[int, int, int, int]:
    """Deck, type, queue and due once the filtered deck is emptied, and as of the second version of the scheduler."""
    kind, queue, due, deck = row.type, row.queue, row.due, row.deck
    if kind == _REVIEW and queue in (_LEARNING, _DAY_LEARNING):  # how the first version wrote relearning
        kind = _RELEARNING
    if row.original_deck:
        deck, due = row.original_deck, row.original_due or due
        if queue >= 0:
            queue = (_LEARNING if due >= _FIRST_INSTANT else _DAY_LEARNING) if kind in _STEPS else kind
    return deck, kind, queue, due


def place(row: CardRow, otherwise: int) -> int:
    """The place in its deck of a note whose first card this is."""
    if row.type == _NEW and not row.original_deck:
        position: float | None = max(row.due, 0)
    else:
        position = told(row.data)[3]
    return otherwise if position is None else int(min(max(position, 0), _MOST - 1))


def told(text: str) -> tuple[float | None, float | None, float | None, float | None]:
    """What `data` says: stability, difficulty, last answer (Unix seconds) and first place in the queue."""
    try:
        fields = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        fields = {}
    numbers = fields if isinstance(fields, dict) else {}
    stability, difficulty, last_review, position = (_number(numbers.get(name)) for name in ("s", "d", "lrt", "pos"))
    if stability is None or difficulty is None or not (0 < stability <= _CENTURY and 1 <= difficulty <= 10):
        stability = difficulty = None
    if last_review is not None and not 0 < last_review <= _LAST_INSTANT:
        last_review = None
    return stability, difficulty, last_review, position


def _refuse(name: str) -> None:
    raise ValueError(name)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e15 else None


def _count(value: int) -> int:
    return min(max(value, 0), _MOST)


def _instant(seconds: float) -> float:
    return min(max(seconds, 0), _LAST_INSTANT)
