"""When a card comes back after each of the four answers: FSRS-6 under Anki's rules.

Again starts the steps anew, good takes the next one, and past the last step the card graduates to an interval of
days. Of a review's intervals each is longer than the one before it (hard < good < easy), and passing never shortens
one by fuzz alone. The rules are those that Anki documents and shows (https://docs.ankiweb.net/deck-options.html);
`tests/core/test_anki_parity.py` compares the results with Anki's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from llmquiz.core import fuzz
from llmquiz.core.day import Calendar
from llmquiz.core.fsrs import MemoryModel, stored
from llmquiz.core.intervals import days_label, seconds_label
from llmquiz.core.mix import fraction
from llmquiz.core.options import DAY_SECONDS, Options
from llmquiz.core.rating import Rating
from llmquiz.core.schedule import Memory, Schedule, State
from llmquiz.core.steps import Steps

_SHORT_TERM_DAYS = 0.5
_PASSED = (Rating.HARD, Rating.GOOD, Rating.EASY)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an answer would do.

    Attributes:
        schedule: the schedule after the answer.
        delay_seconds: the delay, if the card comes back within this study day, without its fuzz; else None.
        interval_days: study days until it comes back; None if it comes back within this one.
        label: the same for a reader, e.g. ``10m``, ``3d``, ``1.2mo``.
        leech: the answer makes the card a leech.
    """

    schedule: Schedule
    delay_seconds: int | None
    interval_days: int | None
    label: str
    leech: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    """All that the rules need to know about one moment: the card before it, and FSRS's view of the four answers."""

    before: Schedule
    now: float
    today: int
    fraction: float | None
    memories: dict[Rating, Memory]
    intervals: dict[Rating, float]


@dataclass(frozen=True, slots=True)
class _Step:
    """A delay in seconds; `interval` is kept for the day on which a card leaves relearning."""

    state: State
    delay: int
    steps_left: int
    interval: int
    lapses: int
    leech: bool = False


class Scheduler:
    """Decides when a card comes back.

    Raises:
        ScheduleError: if a weight of `options` is outside of the bounds of FSRS-6.
    """

    def __init__(self, options: Options, calendar: Calendar | None = None) -> None:
        self.options = options
        self.calendar = calendar or Calendar()
        self.model = MemoryModel(options)
        self._learning = Steps(options.learning_steps)
        self._relearning = Steps(options.relearning_steps)
        # Anki leaves same-day delays to FSRS only where the weights of same-day reviews are in use.
        self._short_term = options.parameters[17] > 0 and options.parameters[18] > 0

    def next(self, schedule: Schedule, now: float, *, seed: int) -> dict[Rating, Outcome]:
        """The outcome of each rating at `now` (Unix seconds).

        `seed` tells cards apart (their id in the store); with the number of answers it decides the fuzz.
        """
        answer = self._answer(schedule, now, seed)
        if schedule.state is State.REVIEW:
            return self._reviewed(answer)
        return self._stepped(answer)

    def answer(self, schedule: Schedule, outcome: Outcome, rating: Rating, now: float, *, seed: int) -> Outcome:
        """What `rating` does at `now`, where `outcome` is what `next` promised for it when the card was shown.

        An interval of days is kept as promised while the study day lasts; steps are counted from `now`.
        """
        shown, today = outcome.schedule.last_review or now, self.calendar.day(now)
        if self.calendar.day(shown) == today:
            if outcome.schedule.state is State.REVIEW:
                return replace(outcome, schedule=replace(outcome.schedule, last_review=now))
            due = outcome.schedule.due + int(now) - int(shown)
            if outcome.delay_seconds is not None and due < int(self.calendar.start(today + 1)):
                return replace(outcome, schedule=replace(outcome.schedule, due=due, last_review=now))
        return self.next(schedule, now, seed=seed)[rating]

    def retrievability(self, schedule: Schedule, now: float) -> float | None:
        """The probability that the card is recalled at `now`; None for a card that was never answered."""
        if schedule.memory is None or schedule.last_review is None:
            return None
        return self.model.retrievability(schedule.memory, self._elapsed(schedule, self.calendar.day(now)))

    def is_leech(self, lapses: int) -> bool:
        """Whether the lapse that made it `lapses` is at the threshold, or a multiple of half of it beyond."""
        threshold = self.options.leech_threshold
        return 0 < threshold <= lapses and (lapses - threshold) % max(ceil(threshold / 2), 1) == 0

    def _elapsed(self, schedule: Schedule, today: int) -> int:
        if schedule.last_review is None:
            return 0
        return max(today - self.calendar.day(schedule.last_review), 0)

    def _answer(self, schedule: Schedule, now: float, seed: int) -> _Answer:
        today = self.calendar.day(now)
        memories = self.model.after(schedule.memory, self._elapsed(schedule, today))
        intervals = {rating: self.model.interval(memory) for rating, memory in memories.items()}
        place = fraction(seed + schedule.reps) if self.options.fuzz else None
        return _Answer(schedule, now, today, place, memories, intervals)

    def _reviewed(self, answer: _Answer) -> dict[Rating, Outcome]:
        outcomes = {Rating.AGAIN: self._lapsed(answer)}
        shortest = 1
        for rating in _PASSED:
            ideal = answer.intervals[rating]
            kept = fuzz.floor_of_passed(ideal, answer.before.interval, self.options.maximum_interval)
            days = self._days(answer, ideal, max(kept, shortest))
            outcomes[rating] = self._in_days(answer, rating, days)
            shortest = days + 1
        return outcomes

    def _lapsed(self, answer: _Answer) -> Outcome:
        lapses = answer.before.lapses + 1
        leech = self.is_leech(lapses)
        ideal = answer.intervals[Rating.AGAIN]
        days = min(max(fuzz.half_up(ideal), 1), self.options.maximum_interval)
        delay = self._relearning.again
        if delay is None:
            if not self._stays_within_day(self._relearning, ideal):
                return self._in_days(answer, Rating.AGAIN, days, lapses=lapses, leech=leech)
            delay = int(ideal * DAY_SECONDS)
        steps_left = len(self._relearning.seconds)
        step = _Step(State.RELEARNING, delay, steps_left, interval=days, lapses=lapses, leech=leech)
        return self._in_seconds(answer, Rating.AGAIN, step)

    def _stepped(self, answer: _Answer) -> dict[Rating, Outcome]:
        before = answer.before
        relearning = before.state is State.RELEARNING
        steps = self._relearning if relearning else self._learning
        all_steps = len(steps.seconds)
        left = all_steps if before.state is State.NEW else before.steps_left
        lapsed = min(max(fuzz.half_up(answer.intervals[Rating.AGAIN]), 1), self.options.maximum_interval)
        return {
            Rating.AGAIN: self._step(answer, Rating.AGAIN, steps, steps.again, all_steps, lapsed),
            Rating.HARD: self._step(answer, Rating.HARD, steps, steps.hard(left), left, before.interval),
            Rating.GOOD: self._step(
                answer, Rating.GOOD, steps, steps.good(left), steps.left_after_good(left), before.interval
            ),
            Rating.EASY: self._graduated_easily(answer),
        }

    def _step(
        self, answer: _Answer, rating: Rating, steps: Steps, delay: int | None, steps_left: int, interval: int
    ) -> Outcome:
        """The step of `delay` seconds; without one, a delay that FSRS sets within the day, or an interval of days."""
        ideal = answer.intervals[rating]
        state = State.RELEARNING if answer.before.state is State.RELEARNING else State.LEARNING
        if delay is None:
            days = self._days(answer, max(fuzz.half_up(ideal), 1), 1)
            if not self._stays_within_day(steps, ideal):
                return self._in_days(answer, rating, days)
            delay, interval = int(ideal * DAY_SECONDS), days
        return self._in_seconds(answer, rating, _Step(state, delay, steps_left, interval, answer.before.lapses))

    def _graduated_easily(self, answer: _Answer) -> Outcome:
        good = self._days(answer, answer.intervals[Rating.GOOD], 1)
        easy = max(fuzz.half_up(answer.intervals[Rating.EASY]), 1)
        return self._in_days(answer, Rating.EASY, self._days(answer, easy, good + 1))

    def _days(self, answer: _Answer, ideal: float, minimum: int) -> int:
        return fuzz.days(ideal, minimum, self.options.maximum_interval, answer.fraction)

    def _stays_within_day(self, steps: Steps, ideal: float) -> bool:
        return not steps.seconds and self._short_term and ideal < _SHORT_TERM_DAYS

    def _in_seconds(self, answer: _Answer, rating: Rating, step: _Step) -> Outcome:
        """A learning step: within this study day at its second, else at the start of the day that it reaches."""
        now, rollover = int(answer.now), int(self.calendar.start(answer.today + 1))
        if step.delay < rollover - now:
            due = min(now + fuzz.step_seconds(step.delay, answer.fraction), rollover - 1)
            return Outcome(
                self._after_step(answer, rating, step, due), step.delay, None, seconds_label(step.delay), step.leech
            )
        days = (step.delay - (rollover - now)) // DAY_SECONDS + 1
        due = int(self.calendar.start(answer.today + days))
        return Outcome(self._after_step(answer, rating, step, due), None, days, days_label(days), step.leech)

    def _after_step(self, answer: _Answer, rating: Rating, step: _Step, due: int) -> Schedule:
        interval = step.interval if step.state is State.RELEARNING else 0
        memory, reps = stored(answer.memories[rating]), answer.before.reps + 1
        return Schedule(step.state, due, interval, step.steps_left, memory, answer.now, reps, step.lapses)

    def _in_days(
        self, answer: _Answer, rating: Rating, days: int, *, lapses: int | None = None, leech: bool = False
    ) -> Outcome:
        before = answer.before
        memory, lapses = stored(answer.memories[rating]), before.lapses if lapses is None else lapses
        due = answer.today + days
        schedule = Schedule(State.REVIEW, due, days, 0, memory, answer.now, before.reps + 1, lapses)
        return Outcome(schedule, None, days, days_label(days), leech)
