"""Anki's card columns and log → our schedules and reviews: the inverse of `llmquiz.anki.exporting.progress.card_state`.

`due` has four meanings. A new card's is its place in the queue, a review's the days since the collection's day 0, a
step's an instant, and a step that reaches another day has days again; a suspended card does not say which of the two.
In a filtered deck `due` is the place in that deck, and what it was at home stands in `odue`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from llmquiz.anki.archive.records import CardRow, ReviewRow
from llmquiz.anki.exporting import progress
from llmquiz.anki.importing.sm2 import Recaller, is_answer, is_reset
from llmquiz.core.day import Calendar
from llmquiz.core.options import DAY_SECONDS, Options
from llmquiz.core.schedule import Memory, Schedule, State
from llmquiz.store.incoming import AnkiCard, IncomingPart, IncomingReview

_NEW, _LEARNING, _REVIEW, _DAY_LEARNING = 0, 1, 2, 3
_SUSPENDED, _BURIED = -1, (-2, -3)
_STATES = tuple(State)
_STEPS = (State.LEARNING, State.RELEARNING)
_FIRST_INSTANT = 1_000_000_000
"""The due of a step that is smaller counts days."""
_LAST_INSTANT = 32_503_680_000  # the year 3000
_DAYS = (719_165, 1_095_000)  # from 1970 to the year 2999
_MOST = 1_000_000  # of days, answers, lapses and steps
_RELEARN = 2
_LATER_STATES = (State.LEARNING, State.REVIEW, State.RELEARNING, State.REVIEW, State.REVIEW, State.REVIEW)


class Home(NamedTuple):
    """A card as it is outside of filtered decks."""

    deck: int
    type: int
    queue: int
    due: int


class Data(NamedTuple):
    """What a card's `data` says: its memory, its last answer (Unix seconds) and its first place in the queue."""

    memory: Memory | None
    last_review: float | None
    position: int | None


class Past:
    """Reads the cards of one collection.

    Args:
        created_at: Unix seconds at which its day 0 starts.
        minutes_west: how far west of UTC its clock was then; None if it does not say.
        recaller: what computes memories under the preset of a deck.
        calendar, options: what the schedules here are made with.
    """

    def __init__(
        self,
        created_at: int,
        minutes_west: int | None,
        recaller: Callable[[int], Recaller],
        calendar: Calendar,
        options: Options,
    ) -> None:
        self.recalled = 0
        self._first_day = _first_day(created_at, minutes_west, calendar)
        self._recaller = recaller
        self._calendar = calendar
        self._options = options

    def part(
        self, row: CardRow, log: Sequence[ReviewRow], *, ordinal: int, leech: bool, keeps: bool = True
    ) -> IncomingPart:
        """One card with its log, oldest first; `keeps` what Anki alone knows of it."""
        home = at_home(row)
        schedule = self.schedule_of(row, home, log)
        return IncomingPart(
            ordinal=ordinal,
            schedule=schedule,
            suspended=home.queue == _SUSPENDED,
            buried_on=self._calendar.day(_instant(row.modified)) if home.queue in _BURIED else None,
            flag=row.flags & 7,
            leech=leech,
            reviews=reviews_of(log),
            anki=AnkiCard(row.id, home.deck, row.factor, self._kept(row, home, schedule)) if keeps else None,
        )

    def schedule_of(self, row: CardRow, home: Home, log: Sequence[ReviewRow]) -> Schedule:
        """When the card is due, by its home deck and queue."""
        reps, lapses = _count(row.reps), _count(row.lapses)
        if home.type == _NEW:
            return Schedule(State.NEW, _count(home.due), reps=reps, lapses=lapses)
        data = data_of(row.data)
        memory = data.memory or self._recalled(row, home, log)
        due = self._day(home.due) if home.type == _REVIEW else self._step(home)
        last_review = data.last_review or self._last_answer(row, home, log)
        left = 0 if home.type == _REVIEW else _count(row.left % 1000)
        state = _STATES[home.type]
        return Schedule(state, due, _count(row.interval), left, memory, last_review, reps, lapses)

    def _day(self, due: int) -> int:
        return min(max(self._first_day + due, _DAYS[0]), _DAYS[1])

    def _step(self, home: Home) -> int:
        if home.queue != _DAY_LEARNING and home.due >= _FIRST_INSTANT:
            return int(_instant(home.due))
        return int(self._calendar.start(self._day(home.due)))

    def _recalled(self, row: CardRow, home: Home, log: Sequence[ReviewRow]) -> Memory:
        self.recalled += 1
        return self._recaller(home.deck).memory(log, row.factor, _count(row.interval))

    def _last_answer(self, row: CardRow, home: Home, log: Sequence[ReviewRow]) -> float:
        answered = next((_instant(it.id / 1000) for it in reversed(log) if is_answer(it)), None)
        if answered is not None:
            return answered
        if home.type == _REVIEW:
            day = min(self._day(home.due - _count(row.interval)), self._calendar.day(_instant(row.modified)))
            return self._calendar.start(day) + DAY_SECONDS / 2
        return min(_instant(row.modified), float(self._step(home)))

    def _kept(self, row: CardRow, home: Home, schedule: Schedule) -> str:
        queue, due = home.queue, home.due
        if queue < 0 and home.type in _STEPS and due < _FIRST_INSTANT:
            # Anki's import moves the day of a step only in its own queue: a suspended one goes back in seconds, a
            # buried one awake.
            queue, due = (queue, schedule.due) if queue == _SUSPENDED else (_DAY_LEARNING, due)
        if progress.counts_days(home.type, queue):
            due += self._first_day - progress.CREATED_ON
        columns = progress.CardState(
            home.type, queue, due, row.interval, row.factor, row.reps, row.lapses, row.left, row.flags, row.data
        )
        return progress.keep(columns, schedule, calendar=self._calendar, options=self._options)


def at_home(row: CardRow) -> Home:
    """The card as Anki has it once its filtered deck is emptied, and as of the second version of its scheduler."""
    card_type, queue, due, deck = row.type, row.queue, row.due, row.deck
    if card_type == State.REVIEW and queue in (_LEARNING, _DAY_LEARNING):  # how the first version wrote relearning
        card_type = State.RELEARNING.value
    elif not row.original_deck:
        return Home(deck, card_type, queue, due)
    if row.original_deck:
        deck = row.original_deck
        due = row.original_due or due
        if queue >= 0:
            queue = _natural_queue(card_type, due)
    return Home(deck, card_type, queue, due)


def _natural_queue(card_type: int, due: int) -> int:
    if card_type in _STEPS:
        return _LEARNING if due >= _FIRST_INSTANT else _DAY_LEARNING
    return card_type


def data_of(text: str) -> Data:
    """What the `data` of a card says, as far as it can be used."""
    fields = _object(text)
    stability, difficulty = _number(fields.get("s")), _number(fields.get("d"))
    memory = None
    if stability is not None and difficulty is not None and 0 < stability <= 36500 and 1 <= difficulty <= 10:
        memory = Memory(stability, difficulty)
    last_review, position = _number(fields.get("lrt")), _number(fields.get("pos"))
    return Data(
        memory,
        last_review if last_review is not None and 0 < last_review <= _LAST_INSTANT else None,
        None if position is None else _count(int(min(position, _MOST))),
    )


def reviews_of(log: Sequence[ReviewRow]) -> list[IncomingReview]:
    """The log of one card, oldest first, with the state that each answer found it in."""
    reviews, fresh, make = [], True, IncomingReview._make
    for row in log:
        at, _, ease, interval, last_interval, factor, duration, kind = row
        state = State.NEW if fresh and not kind else _LATER_STATES[kind]
        if kind > _RELEARN:
            fresh = fresh or is_reset(row)
            ease = ease if is_answer(row) else 0
        elif ease:
            fresh = False
        if duration < 0:
            duration = 0
        reviews.append(make((at, ease, state, interval, last_interval, duration, 0.0, 0.0, kind, factor)))
    return reviews


def _first_day(created_at: int, minutes_west: int | None, calendar: Calendar) -> int:
    """The study day 0, which Anki names by the date on the clock of its creation."""
    if minutes_west is None:
        return calendar.day(_instant(created_at))
    there = datetime.fromtimestamp(_instant(created_at), UTC) - timedelta(minutes=minutes_west)
    return there.date().toordinal()


def _object(text: str) -> dict[str, Any]:
    if not text.startswith("{") or text == "{}":
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _number(value: object) -> float | None:
    """A number that is finite, else None."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15:
        return float(value)
    return None


def _count(value: int) -> int:
    return min(max(value, 0), _MOST)


def _instant(seconds: float) -> float:
    return min(max(seconds, 0), _LAST_INSTANT)
