"""The memory of a card that Anki scheduled without FSRS: from its log if that goes back to the start, else from ease.

Only the answers since the card was last learned count: who forgets a card in Anki leaves its old answers in the log.
https://github.com/open-spaced-repetition/fsrs-rs documents both computations (`memory_state`, `memory_state_from_sm2`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import dropwhile

from llmquiz.anki.archive.records import ReviewRow
from llmquiz.core.day import Calendar
from llmquiz.core.errors import ScheduleError
from llmquiz.core.fsrs import STABILITY_MAX, MemoryModel, stored
from llmquiz.core.options import DEFAULT_PARAMETERS, Options
from llmquiz.core.rating import Rating
from llmquiz.core.schedule import Memory

_LEARN, _CRAM, _MANUAL = 0, 3, 4
_RATINGS = {rating.value: rating for rating in Rating}
_DEFAULT_EASE = 2.5
_HIGHEST_DIFFICULTY_FACTOR = 1100
"""With FSRS on, Anki logs a difficulty, 100 to 1100, in the place of an ease, 1300 and more."""


def weights(parameters: Sequence[float]) -> tuple[float, ...]:
    """The 21 weights of FSRS-6 that mean the same as the 17 or 19 of its forerunners; the defaults for none.

    Raises:
        ScheduleError: for any other number of weights.
    """
    given = list(parameters)
    if not given:
        return DEFAULT_PARAMETERS
    if len(given) == 17:
        given[4] += 2 * given[5]
        given[5] = math.log(3 * given[5] + 1) / 3 if given[5] > -1 / 3 else 0.0
        given[6] += 0.5
        given += [0.0, 0.0]
    if len(given) == 19:
        given += [0.0, 0.5]
    if len(given) != len(DEFAULT_PARAMETERS):
        raise ScheduleError(f"schedule: parameters must be 17, 19 or 21 weights of FSRS, not {len(given)}")
    return tuple(given)


class Recaller:
    """Computes memories with the weights of one preset.

    Args:
        parameters: as Anki has them.
        retention: what SM-2 is taken to have kept, where only ease and interval are known.

    Raises:
        ScheduleError: if the weights are not those of FSRS.
    """

    def __init__(self, parameters: Sequence[float], calendar: Calendar, retention: float = 0.9) -> None:
        self._weights = weights(parameters)
        self._model = MemoryModel(Options(parameters=self._weights))
        self._calendar = calendar
        self._retention = retention if 0.5 <= retention <= 0.99 else 0.9

    def memory(self, log: Sequence[ReviewRow], factor: int, interval: int) -> Memory:
        """The memory after the answers of `log`; should there be none, by the card's own ease and interval (days)."""
        answers, whole = since_learned(log)
        if not answers:
            return stored(self.from_ease(factor, interval))
        first, *rest = answers
        if whole:
            memory = self._model.after(None, 0)[_RATINGS[first.ease]]
        else:
            memory = self.from_ease(first.factor, first.interval)
        day = self._calendar.day(first.id / 1000)
        for answer in rest:
            last, day = day, self._calendar.day(answer.id / 1000)
            memory = self._model.answered(memory, max(day - last, 0), _RATINGS[answer.ease])
        return stored(memory)

    def from_ease(self, factor: int, interval: int) -> Memory:
        """The memory that would have led FSRS to the same interval with the same growth."""
        decay = -self._weights[20]
        fading = (0.9 ** (1 / decay) - 1) / (self._retention ** (1 / decay) - 1)
        stability = min(max(interval, 1) * fading, STABILITY_MAX)
        if 0 < factor <= _HIGHEST_DIFFICULTY_FACTOR:
            difficulty = (factor / 1000 - 0.1) * 9 + 1
        else:
            ease = factor / 1000 if factor > 0 else _DEFAULT_EASE
            w8, w9, w10 = self._weights[8:11]
            growth = math.exp(w8) * stability**-w9 * math.expm1((1 - self._retention) * w10)
            difficulty = 11 - (ease - 1) / growth
        return Memory(stability, min(max(difficulty, 1.0), 10.0))


def since_learned(log: Sequence[ReviewRow]) -> tuple[list[ReviewRow], bool]:
    """The answers since the card was last learned, and whether they begin with its learning."""
    answers: list[ReviewRow] = []
    for row in log:
        if is_reset(row):
            answers = []
        elif is_answer(row) and not (row.type == _CRAM and row.factor == 0):
            answers.append(row)
    start, learning = None, False
    for number, row in enumerate(answers):
        if row.type == _LEARN and not learning:
            start = number
        learning = row.type == _LEARN
    if start is not None:
        return answers[start:], True
    # Of a log that lost its start, the first row that tells an interval of days stands for what came before.
    return list(dropwhile(lambda row: row.interval <= 0, answers)), False


def is_answer(row: ReviewRow) -> bool:
    """Whether a row of the log is an answer, not a card that was moved by hand or by a new computation."""
    return row.ease in _RATINGS and row.type < _MANUAL


def is_reset(row: ReviewRow) -> bool:
    """Whether the card was made new again."""
    return row.type == _MANUAL and row.ease == 0 and row.factor == 0
