"""What is remembered: FSRS-6 over study days, with the formulas of the `fsrs` library and Anki's limits and rounding.

Elapsed time is a number of study days, not of 24-hour blocks: a card answered at 23:00 and again at 7:00 has waited
one day. Formulas: https://github.com/open-spaced-repetition/fsrs4anki/wiki/The-Algorithm. They are called on the
library's scheduler, whose `review_card` cannot be used: it counts 24-hour blocks and has no upper limit of stability.
`tests/core/test_anki_parity.py` compares every number with Anki's own.
"""

from __future__ import annotations

from fsrs import Rating as FsrsRating
from fsrs import Scheduler as FsrsScheduler

from llmquiz.core.errors import ScheduleError
from llmquiz.core.options import Options
from llmquiz.core.rating import Rating
from llmquiz.core.schedule import Memory

STABILITY_MAX = 36500.0
_RATINGS = {rating: FsrsRating(rating.value) for rating in Rating}


class MemoryModel:
    """FSRS-6 with the weights and the wished-for retention of `options`.

    Raises:
        ScheduleError: if a weight is outside of the bounds that FSRS-6 sets.
    """

    def __init__(self, options: Options) -> None:
        try:
            self._fsrs = FsrsScheduler(parameters=options.parameters, desired_retention=options.desired_retention)
        except ValueError as error:
            detail = str(error).splitlines()[-1]
            raise ScheduleError(f"schedule: {detail}; leave out 'parameters' to use the defaults") from error
        self._decay = -options.parameters[20]
        self._factor = 0.9 ** (1 / self._decay) - 1
        self._interval_per_stability = (options.desired_retention ** (1 / self._decay) - 1) / self._factor
        self._first = {rating: self._first_memory(rating) for rating in Rating}

    def retrievability(self, memory: Memory, elapsed: int) -> float:
        """The probability of recall after `elapsed` study days."""
        return float((1 + self._factor * elapsed / memory.stability) ** self._decay)

    def interval(self, memory: Memory) -> float:
        """Days until recall has fallen to the wished-for retention, not rounded."""
        return float(memory.stability * self._interval_per_stability)

    def after(self, memory: Memory | None, elapsed: int) -> dict[Rating, Memory]:
        """The memory after each answer, `elapsed` study days after the last; `memory` is None for a first answer."""
        if memory is None:
            return self._first
        recall = self.retrievability(memory, elapsed) if elapsed >= 1 else None
        return {rating: self._after(memory, recall, answer) for rating, answer in _RATINGS.items()}

    def answered(self, memory: Memory, elapsed: int, rating: Rating) -> Memory:
        """As `after`, for one answer: a log of a hundred thousand has but one at a time."""
        recall = self.retrievability(memory, elapsed) if elapsed >= 1 else None
        return self._after(memory, recall, _RATINGS[rating])

    def _after(self, memory: Memory, recall: float | None, answer: FsrsRating) -> Memory:
        """`recall` is the probability of it just before; None if the last answer was on the same day."""
        s, d = memory.stability, memory.difficulty
        if recall is None:
            stability = self._fsrs._short_term_stability(stability=s, rating=answer)
        else:
            stability = self._fsrs._next_stability(difficulty=d, stability=s, retrievability=recall, rating=answer)
        difficulty = self._fsrs._next_difficulty(difficulty=d, rating=answer)
        return Memory(min(stability, STABILITY_MAX), difficulty)

    def _first_memory(self, rating: Rating) -> Memory:
        answer = _RATINGS[rating]
        return Memory(
            self._fsrs._initial_stability(rating=answer),
            self._fsrs._initial_difficulty(rating=answer, clamp=True),
        )


def stored(memory: Memory) -> Memory:
    """The memory as it is kept: Anki stores stability to 4 decimals and difficulty to 3."""
    return Memory(round(memory.stability, 4), round(memory.difficulty, 3))
