"""Today's cards in the order in which they are shown, as in Anki.

First what is being learned and is due by now; then reviews, oldest due day first, with new cards spread evenly among
them; and when nothing else is left, what is being learned and falls due within the next minutes. Limits count what
the log says was studied today, so that a restart does not hand out more. New cards keep their own limit: a backlog of
reviews does not use it up.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from llmquiz.core.day import Calendar
from llmquiz.core.options import Options
from llmquiz.core.schedule import State
from llmquiz.store import Store, queue
from llmquiz.store.database import explained
from llmquiz.store.queue import Filter, QueueRow

_NEVER_BURIED = -1
_FOREVER = 2**53


@dataclass(frozen=True, slots=True)
class Scope:
    """What to study: all that is due, or less.

    Attributes:
        card: this card alone, whether it is due or not, limits and burying aside.
        limit: at most so many cards, not counting the repetitions of a card that is being learned.
        ahead: study days; reviews that fall due within them are shown early.
    """

    decks: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    card: str | None = None
    limit: int | None = None
    ahead: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """How many cards are left, under the day's limits."""

    new: int
    learning: int
    review: int


class Queue:
    """The cards of one study day; `build` fills it, answers change it. Instants are Unix seconds."""

    def __init__(self, main: Iterable[QueueRow], learning: Sequence[QueueRow], learn_ahead: float) -> None:
        self._main = deque(main)
        self._learning = sorted(((row.due, row.schedule, row) for row in learning), key=_moment)
        self._learn_ahead = learn_ahead
        states = [row.state for row in self._main]
        self._new = states.count(State.NEW)
        self._reviews = states.count(State.REVIEW)

    def head(self, now: float, *, after: int | None = None) -> QueueRow | None:
        """The card to show at `now`, or the one after the part `after`; None if there is none by now."""
        learning = next((entry for entry in self._learning if entry[1] != after), None)
        if learning and learning[0] <= now:
            return learning[2]
        if main := next((row for row in self._main if row.schedule != after), None):
            return main
        if learning and learning[0] <= now + self._learn_ahead:
            return learning[2]
        return None

    def next_learning_due(self) -> int | None:
        """When the next card that is being learned falls due; None if there is none today."""
        return self._learning[0][0] if self._learning else None

    def counts(self, now: float) -> Counts:
        """What is left at `now`."""
        until = now + self._learn_ahead
        soon = 0
        for due, _, _ in self._learning:
            if due > until:
                break
            soon += 1
        between_days = len(self._main) - self._new - self._reviews
        return Counts(self._new, soon + between_days, self._reviews)

    def take(self, schedule: int) -> None:
        """Remove a card, if it is there."""
        if self._main and self._main[0].schedule == schedule:
            self._uncount(self._main.popleft())
            return
        for place, entry in enumerate(self._learning):
            if entry[1] == schedule:
                del self._learning[place]
                return
        for row in self._main:
            if row.schedule == schedule:
                self._main.remove(row)
                self._uncount(row)
                return

    def put_learning(self, row: QueueRow, now: float) -> None:
        """Put a card back that comes again today; behind the next one, if it would be shown again at once."""
        due = row.due
        soon = now + self._learn_ahead
        if not self._main and self._learning and due <= soon:
            following = self._learning[0][0]
            if due <= following and following + 1 < soon:
                due = following + 1
        insort(self._learning, (due, row.schedule, row), key=_moment)

    def _uncount(self, row: QueueRow) -> None:
        self._new -= row.state is State.NEW
        self._reviews -= row.state is State.REVIEW


def build(
    store: Store,
    options: Options,
    scope: Scope,
    calendar: Calendar,
    *,
    now: float,
    learn_ahead: float,
    seen: Collection[int] = (),
) -> Queue:
    """The queue of the study day of `now`; `seen` are the parts of cards that count to the scope's limit already.

    Raises:
        StoreError: if the store cannot be read.
    """
    today = calendar.day(now)
    with explained(store.path):
        if scope.card:
            return _one_card(store, scope.card, learn_ahead, seen)
        gathering = _Gathering(store, options, scope, today, now)
        learning = gathering.learning(calendar)
        main = gathering.main()
    if scope.limit is not None:
        main = main[: max(scope.limit - len(seen), 0)]
    return Queue(main, learning, learn_ahead)


def _one_card(store: Store, card: str, learn_ahead: float, seen: Collection[int]) -> Queue:
    scope = Filter(card=card)
    learning = list(queue.learning(store.connection, _FOREVER, _NEVER_BURIED, scope))
    rows = [
        *queue.reviews(store.connection, _FOREVER, _NEVER_BURIED, scope),
        *queue.new(store.connection, _NEVER_BURIED, scope, shuffle=False),
    ]
    fresh = [row for row in learning if row.schedule not in seen]
    repeated = [row for row in learning if row.schedule in seen]
    return Queue([*fresh, *(row for row in rows if row.schedule not in seen)], repeated, learn_ahead)


class _Gathering:
    """One pass over what is due; of the parts of a card only the first that comes up is taken."""

    def __init__(self, store: Store, options: Options, scope: Scope, today: int, now: float) -> None:
        self._connection = store.connection
        self._options = options
        self._scope = scope
        self._filter = Filter(scope.decks, scope.topics)
        self._today = today
        self._now = now
        self._between_days: list[QueueRow] = []
        self._learned: set[int] = set()
        self._cards: set[str] = set()

    def learning(self, calendar: Calendar) -> list[QueueRow]:
        """What is being learned within the day; what came over from another day by its step is kept for `main`."""
        rollover = calendar.start(self._today + 1)
        within = []
        for row in queue.learning(self._connection, rollover, self._today, self._filter):
            if row.last_review is not None and calendar.day(row.due) > calendar.day(row.last_review):
                self._between_days.append(row)
            else:
                within.append(row)
        self._cards.update(row.card for row in within)
        self._learned = {row.schedule for row in (*within, *self._between_days)}
        return within

    def main(self) -> list[QueueRow]:
        done = queue.done(self._connection, self._today)
        reviews_left = self._options.reviews_per_day - done.reviews
        between_days = self._some(iter(self._between_days), reviews_left)
        until = self._today + self._scope.ahead
        due = queue.reviews(self._connection, until, self._today, self._filter)
        if queue.clock_was_ahead(self._connection, self._now):
            stranded = queue.stranded(self._connection, self._now, until, self._today, self._filter)
            due = chain(due, (row for row in stranded if row.schedule not in self._learned))
        reviews = self._some(due, reviews_left - len(between_days))
        shuffle = self._options.new_order == "random"
        fresh = queue.new(self._connection, self._today, self._filter, shuffle=shuffle)
        new = self._some(fresh, self._options.new_per_day - done.new)
        return list(spread(list(spread(reviews, between_days)), new))

    def _some(self, rows: Iterator[QueueRow], limit: int) -> list[QueueRow]:
        taken: list[QueueRow] = []
        while len(taken) < limit and (row := next(rows, None)):
            if self._options.bury_siblings and row.card in self._cards:
                continue
            self._cards.add(row.card)
            taken.append(row)
        return taken


def spread(many: Sequence[QueueRow], few: Sequence[QueueRow]) -> Iterator[QueueRow]:
    """Both sequences as one, the second spread evenly over the first; each keeps its order."""
    ratio = (len(many) + 1) / (len(few) + 1)
    taken = 0
    for place, row in enumerate(many):
        while taken < len(few) and (taken + 1) * ratio < place + 1:
            yield few[taken]
            taken += 1
        yield row
    yield from few[taken:]


def _moment(entry: tuple[int, int, QueueRow]) -> tuple[int, int]:
    return entry[0], entry[1]
