"""A sitting: the next card, an answer, the next card. An answer that was acknowledged is on disk.

The session knows nothing of screens: the TUI, the plain line mode and the JSON mode all drive this one. It notices
when the store has changed beside it (an edit, another llmquiz, a new day) and builds its queue anew; an answer to a
card that was answered elsewhere meanwhile is refused, never written over the other.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import suppress
from dataclasses import replace

from llmquiz.core.card import Card, Kind
from llmquiz.core.day import Calendar, Clock
from llmquiz.core.errors import StoreError
from llmquiz.core.mix import shuffled
from llmquiz.core.options import Options
from llmquiz.core.rating import Rating
from llmquiz.core.schedule import Schedule, State
from llmquiz.core.scheduler import Outcome, Scheduler
from llmquiz.store import Store, log
from llmquiz.store.database import is_own
from llmquiz.store.queue import QueueRow
from llmquiz.store.records import ReviewRecord, StudyItem
from llmquiz.study.prompt import (
    CardBuried,
    CardFlagged,
    CardRated,
    CardSuspended,
    NoCardError,
    Prompt,
    StaleCardError,
    Undone,
)
from llmquiz.study.queue import Counts, Queue, Scope, build

__all__ = [
    "CardBuried",
    "CardFlagged",
    "CardRated",
    "CardSuspended",
    "Counts",
    "NoCardError",
    "Prompt",
    "Scope",
    "Session",
    "StaleCardError",
    "Undone",
]

LEARN_AHEAD_SECONDS = 20 * 60


class Session:
    """Cards to study, one after the other.

    Args:
        scope: what to study; all that is due by default.
        clock: where the present comes from, in Unix seconds.
        learn_ahead: seconds; with nothing else left, cards being learned are shown so much early.

    Raises:
        ScheduleError: if the options hold weights that FSRS cannot use.
    """

    def __init__(
        self,
        store: Store,
        options: Options,
        *,
        scope: Scope | None = None,
        calendar: Calendar | None = None,
        clock: Clock = time.time,
        learn_ahead: float = LEARN_AHEAD_SECONDS,
    ) -> None:
        self.store = store
        self.options = options
        self.scope = scope or Scope()
        self.calendar = calendar or Calendar()
        self.answered = 0
        self._clock = clock
        self._learn_ahead = learn_ahead
        self._scheduler = Scheduler(options, self.calendar)
        self._seen: set[int] = set()
        self._queue: Queue | None = None
        self._version: tuple[int, int, int] | None = None
        self._prompt: Prompt | None = None
        self._row: log.Row | None = None
        self._prepared: tuple[log.Row, Prompt] | None = None

    @property
    def counts(self) -> Counts:
        """What is left today, the current card included."""
        now = self._clock()
        return self._fresh_queue(now).counts(now)

    def next(self) -> Prompt | None:
        """The card to answer, the same until it is answered; None if there is none now.

        Raises:
            StoreError: if the store cannot be read.
        """
        now = self._clock()
        queue = self._fresh_queue(now)
        while self._prompt is None and (head := queue.head(now)):
            if self._prepared and self._prepared[0][0] == head.schedule:
                (self._row, self._prompt), self._prepared = self._prepared, None
                break
            item = self.store.item(head.schedule)
            if item is None or not self._ready(item[1]):
                queue.take(head.schedule)
                continue
            self._show(*item, now)
        return self._prompt

    def prepare(self) -> None:
        """Read ahead the card that will come after the current one, in a moment in which the learner thinks.

        `next` then returns at once; without this it reads the card when it is asked for. Nothing is shown or written;
        what keeps the card from being read is left for `next` to say.
        """
        with suppress(StoreError):
            self._read_ahead(self._clock())

    def _read_ahead(self, now: float) -> None:
        queue = self._fresh_queue(now)
        if self._prompt is None or self._prepared or not (head := queue.head(now, after=self._prompt.schedule_id)):
            return
        item = self.store.item(head.schedule)
        if item and self._ready(item[1]):
            self._prepared = item[0], self._prompt_of(item[1], now)

    def next_learning_due(self) -> float | None:
        """When the next card that is being learned falls due today, in Unix seconds; None if none does."""
        return self._fresh_queue(self._clock()).next_learning_due()

    def rate(self, rating: Rating, *, duration_ms: int) -> CardRated:
        """Answer the current card. The answer is on disk when this returns.

        Raises:
            NoCardError: if there is no current card.
            StaleCardError: if the card was answered or changed elsewhere; nothing was written, `next` gives another
            card. StoreError: if the answer cannot be written; nothing has changed, the card is still the current one.
        """
        prompt, row = self._current()
        now = self._clock()
        outcome = self._scheduler.answer(prompt.schedule, prompt.outcomes[rating], rating, now, seed=prompt.schedule_id)
        suspended = outcome.leech and self.options.leech_suspends
        today = self.calendar.day(now)
        with self.store.transaction() as connection:
            self._check_unchanged(row)
            siblings = self._siblings(prompt, today)
            log.set_field(connection, "buried_on", today, [sibling[0] for sibling in siblings])
            log.write_schedule(connection, row, outcome.schedule, leech=outcome.leech, suspended=suspended)
            review = log.add_review(connection, self._record(prompt, rating, outcome, now, today, duration_ms))
            log.add_action(connection, "rate", row[0], (row, *siblings), at=now, day=today, review=review)
        self._answered(prompt, outcome, now, suspended=suspended)
        return CardRated(prompt.card.id, row[0], rating, outcome, outcome.leech, suspended, len(siblings))

    def undo(self) -> Undone | None:
        """Take back the last thing done, here or before a restart; its card is the current one again.

        Returns None if there is nothing to take back, or after thirty in a row.

        Raises:
            StaleCardError: if another llmquiz did the last thing while this one is open. StoreError: if it cannot be
            written. Nothing has changed.
        """
        now = self._clock()
        with self.store.transaction() as connection:
            undone = log.undo_last(connection, at=now, day=self.calendar.day(now))
            if undone is not None:
                self._check_own(connection, undone.schedule)
        if undone is None:
            return None
        self._forget()
        self._seen.discard(undone.schedule)
        if undone.kind == "rate":
            self.answered = max(self.answered - 1, 0)
        row, item = self._item(undone.schedule)
        if self._ready(item):
            self._show(row, item, now)
        return Undone(undone.kind, item.card.id, undone.schedule, undone.rating)

    def suspend(self) -> CardSuspended:
        """Take the current card out of the queue until it is resumed.

        Raises:
            NoCardError, StaleCardError, StoreError: as `rate`.
        """
        prompt = self._set("suspend", "suspended", 1)
        self._leave(prompt)
        return CardSuspended(prompt.card.id, prompt.schedule_id)

    def bury(self) -> CardBuried:
        """Take the current card out of the queue until the next study day.

        Raises:
            NoCardError, StaleCardError, StoreError: as `rate`.
        """
        prompt = self._set("bury", "buried_on", self.calendar.day(self._clock()))
        self._leave(prompt)
        return CardBuried(prompt.card.id, prompt.schedule_id)

    def flag(self, flag: int) -> CardFlagged:
        """Give the current card a flag, 1 to 7, or take it away with 0; the card stays the current one.

        Raises:
            NoCardError, StaleCardError, StoreError: as `rate`; StoreError also for another number.
        """
        if not 0 <= flag <= 7:
            raise StoreError(f"flag {flag} is not one of 0 to 7")
        prompt = self._set("flag", "flag", flag)
        self._row = log.row(self.store.connection, prompt.schedule_id)
        self._prompt = replace(prompt, flag=flag)
        return CardFlagged(prompt.card.id, prompt.schedule_id, flag)

    def refresh(self) -> None:
        """Read the current card again, after its deck was edited.

        Raises:
            StoreError: if the store cannot be read.
        """
        if self._prompt is None:
            return
        schedule_id = self._prompt.schedule_id
        self._forget()
        item = self.store.item(schedule_id)
        if item and self._ready(item[1]):
            self._show(*item, self._clock())

    def _fresh_queue(self, now: float) -> Queue:
        version = (self.calendar.day(now), *self._store_version())
        if self._queue is None or version != self._version:
            self._drop_changed_prompt()
            self._prepared = None
            self._queue = build(
                self.store,
                self.options,
                self.scope,
                self.calendar,
                now=now,
                learn_ahead=self._learn_ahead,
                seen=self._seen,
            )
            self._version = version
        return self._queue

    def _store_version(self) -> tuple[int, int]:
        """Changes with each change of the store: by others, and by this connection."""
        connection = self.store.connection
        return connection.execute("PRAGMA data_version").fetchone()[0], connection.total_changes

    def _drop_changed_prompt(self) -> None:
        if self._prompt is not None and log.row(self.store.connection, self._prompt.schedule_id) != self._row:
            self._prompt = self._row = None

    def _ready(self, item: StudyItem) -> bool:
        progress = item.progress
        return not progress.suspended and not progress.retired

    def _item(self, schedule_id: int) -> tuple[log.Row, StudyItem]:
        item = self.store.item(schedule_id)
        if item is None:
            raise StoreError(f"schedule {schedule_id} is gone from the store")
        return item

    def _show(self, row: log.Row, item: StudyItem, now: float) -> None:
        self._row, self._prompt = row, self._prompt_of(item, now)

    def _prompt_of(self, item: StudyItem, now: float) -> Prompt:
        progress, card = item.progress, item.card
        return Prompt(
            card=card,
            ordinal=progress.ordinal,
            schedule_id=progress.id,
            schedule=progress.schedule,
            outcomes=self._scheduler.next(progress.schedule, now, seed=progress.id),
            flag=progress.flag,
            leech=progress.leech,
            choice_order=_choice_order(card, progress.id, progress.schedule.reps),
        )

    def _current(self) -> tuple[Prompt, log.Row]:
        if self._prompt is None or self._row is None:
            raise NoCardError("there is no current card; ask for the next one first")
        if self._version is not None and self._version[1:] != self._store_version():
            self._version = self._prepared = None
        return self._prompt, self._row

    def _check_unchanged(self, row: log.Row) -> None:
        if log.row(self.store.connection, row[0]) != row:
            self._forget()
            raise StaleCardError(f"card '{row[1]}' was changed elsewhere meanwhile; go on with the next card")

    def _check_own(self, connection: sqlite3.Connection, schedule: int) -> None:
        """That the action which was just taken back is not one that another process did meanwhile."""
        (action,) = connection.execute("SELECT undoes FROM action ORDER BY id DESC LIMIT 1").fetchone()
        if not is_own(connection, action):
            row = log.row(connection, schedule)
            name = row[1] if row else schedule
            raise StaleCardError(f"the last answer, to '{name}', was given in another llmquiz; take it back there")

    def _siblings(self, prompt: Prompt, today: int) -> list[log.Row]:
        """The other parts of the card that would come up and are not being learned within this day."""
        if prompt.card.kind not in (Kind.CLOZE, Kind.NOTE) or not self.options.bury_siblings or self.scope.card:
            return []
        rollover = self.calendar.start(today + 1)
        rows = log.rows_of_card(self.store.connection, prompt.card.id)
        progresses = [(row, log.progress(row)) for row in rows if row[0] != prompt.schedule_id]
        return [
            row
            for row, part in progresses
            if not (part.suspended or part.retired or part.buried_on == today)
            and (part.schedule.state in (State.NEW, State.REVIEW) or part.schedule.due >= rollover)
        ]

    def _record(
        self, prompt: Prompt, rating: Rating, outcome: Outcome, now: float, today: int, duration_ms: int
    ) -> ReviewRecord:
        memory = outcome.schedule.memory
        assert memory is not None  # every answer leaves a memory
        return ReviewRecord(
            id=int(now * 1000),
            schedule=prompt.schedule_id,
            day=today,
            rating=rating,
            state=prompt.schedule.state,
            interval=outcome.interval_days if outcome.interval_days is not None else -(outcome.delay_seconds or 0),
            last_interval=self._last_interval(prompt.schedule),
            memory=memory,
            retrievability=self._scheduler.retrievability(prompt.schedule, now),
            duration_ms=max(duration_ms, 0),
        )

    def _last_interval(self, schedule: Schedule) -> int:
        """Days, or seconds as a negative number for a step within the day; 0 for a first answer."""
        if schedule.state is State.REVIEW or schedule.last_review is None:
            return schedule.interval
        days = self.calendar.day(schedule.due) - self.calendar.day(schedule.last_review)
        return days if days > 0 else -max(schedule.due - int(schedule.last_review), 0)

    def _answered(self, prompt: Prompt, outcome: Outcome, now: float, *, suspended: bool) -> None:
        self.answered += 1
        self._seen.add(prompt.schedule_id)
        self._leave(prompt)
        if self._queue is not None and outcome.delay_seconds is not None and not suspended:
            after = outcome.schedule
            row = QueueRow(prompt.schedule_id, prompt.card.id, after.state, after.due, after.last_review)
            self._queue.put_learning(row, now)

    def _set(self, kind: str, name: str, value: int) -> Prompt:
        prompt, row = self._current()
        now = self._clock()
        with self.store.transaction() as connection:
            self._check_unchanged(row)
            log.set_field(connection, name, value, [row[0]])
            log.add_action(connection, kind, row[0], [row], at=now, day=self.calendar.day(now))
        self._accept_own_change()
        return prompt

    def _leave(self, prompt: Prompt) -> None:
        """The current card has been dealt with."""
        self._prompt = self._row = None
        if self._queue is not None:
            self._queue.take(prompt.schedule_id)
        self._accept_own_change()

    def _accept_own_change(self) -> None:
        """Our own write is in the queue already; a write of another process since then is not."""
        if self._version is not None:
            self._version = (*self._version[:2], self.store.connection.total_changes)

    def _forget(self) -> None:
        self._prompt = self._row = self._prepared = self._queue = self._version = None


def _choice_order(card: Card, schedule_id: int, reps: int) -> tuple[int, ...]:
    if card.kind is not Kind.CHOICE:
        return ()
    count = len(next(iter(card.texts.values())).choices)
    return shuffled(count, (schedule_id << 20) + reps)
