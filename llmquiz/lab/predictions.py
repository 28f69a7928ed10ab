"""How good a guess was: by which factor it missed what the lab measured, and which rating that suggests.

Guesses are judged on a logarithmic scale, since what an engineer must know is the order of magnitude and not the digit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from llmquiz.core.errors import LabError
from llmquiz.core.rating import Rating

_ROUNDING = 1 + 1e-9


class Closeness(StrEnum):
    """How near a guess came, for the factor w within which the lab calls a guess good."""

    SPOT_ON = "spot on"  # within sqrt(w)
    GOOD = "good"  # within w
    NEAR = "near"  # within w^2
    OFF = "off"  # beyond, of the other sign, or no guess


_RATINGS = {
    Closeness.SPOT_ON: Rating.EASY,
    Closeness.GOOD: Rating.GOOD,
    Closeness.NEAR: Rating.HARD,
    Closeness.OFF: Rating.AGAIN,
}


@dataclass(frozen=True, slots=True)
class PredictionScore:
    """A guess that was held against a measurement; `factor` is at least 1, and infinite where no ratio exists."""

    factor: float
    verdict: Closeness

    @property
    def rating(self) -> Rating:
        """The rating that it suggests; the learner decides."""
        return _RATINGS[self.verdict]


def score(guess: float | None, measured: float | None, within: float) -> PredictionScore:
    """Judge a guess; None or NaN is no guess.

    Raises:
        LabError: if nothing was measured, so that there is nothing to judge.
    """
    if measured is None or not math.isfinite(measured):
        raise LabError("the lab measured no such number, so the guess cannot be scored; run it again")
    factor = _factor(guess, measured)
    for verdict, limit in (
        (Closeness.SPOT_ON, math.sqrt(within)),
        (Closeness.GOOD, within),
        (Closeness.NEAR, within**2),
    ):
        if factor <= limit * _ROUNDING:
            return PredictionScore(factor, verdict)
    return PredictionScore(factor, Closeness.OFF)


def _factor(guess: float | None, measured: float) -> float:
    if guess is None or not math.isfinite(guess):
        return math.inf
    if guess == measured:
        return 1.0
    if guess == 0 or measured == 0 or (guess > 0) != (measured > 0):
        return math.inf
    logs = math.log(abs(guess)) - math.log(abs(measured))
    return math.exp(min(abs(logs), 700.0))
