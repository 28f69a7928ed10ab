"""Scaling laws: fit L(x) = E + A x^-b to losses of models of growing size, data or compute (Kaplan et al. 2020;
Hoffmann et al. 2022, section 3.3), and say how far the points determine it.

What people get wrong is the floor E. Over one or two decades of x, a power law with E = 0 and a steeper one towards
some E > 0 lie on the same points; both predict the next point well, and they disagree about everything far out. So fit
the floor only from enough points, and report which floors the points allow, not the best one.

Units: x in parameters or tokens, L and E in nats per token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from llmquiz.llm.errors import ModelError

Points: TypeAlias = Sequence[tuple[float, float]]  # (x, L)
_STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)  # 97.5% quantiles for 1, 2, ... degrees
_FLOORS = 400  # tried between 0 and the smallest loss


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """L(x) = floor + scale * x^-exponent; `margin` is the 95% half-width of the exponent for this floor, `misfit` the
    sum of the squared relative residuals of L."""

    floor: float
    scale: float
    exponent: float
    margin: float
    misfit: float

    def __call__(self, x: float) -> float:
        return self.floor + self.scale * math.exp(-self.exponent * math.log(x))


def fit_power_law(points: Points, floor: float = 0.0) -> PowerLaw:
    """Least squares in log-log for a given floor, weighted so that the *relative* error of L counts and not that of
    L - E, which explodes near the floor.

    Raises:
        ModelError: if there are fewer than three points, or one is not above the floor.
    """
    if len({x for x, _ in points}) < 3 or any(x <= 0 or loss <= floor for x, loss in points):
        raise ModelError(f"a power law with floor {floor:.3g} needs three points or more, all above it")
    logs = [(math.log(x), math.log(loss - floor), (1 - floor / loss) ** 2) for x, loss in points]
    total = sum(w for *_, w in logs)
    mean_x = sum(w * x for x, _, w in logs) / total
    mean_y = sum(w * y for _, y, w in logs) / total
    spread = sum(w * (x - mean_x) ** 2 for x, _, w in logs)
    slope = sum(w * (x - mean_x) * (y - mean_y) for x, y, w in logs) / spread
    misfit = sum(w * (y - mean_y - slope * (x - mean_x)) ** 2 for x, y, w in logs)
    margin = _student(len(points) - 2) * math.sqrt(misfit / (len(points) - 2) / spread)
    return PowerLaw(floor, math.exp(mean_y - slope * mean_x), -slope, margin, misfit)


def plausible_floors(points: Points) -> list[PowerLaw]:
    """The best fit for each floor that the points do not rule out at 95% (profile likelihood), floors ascending.

    Raises:
        ModelError: if there are fewer than four points: three pass through them exactly.
    """
    if len(points) < 4:
        raise ModelError(f"{len(points)} points cannot tell a floor; measure four or more")
    lowest = min(loss for _, loss in points)
    fits = [fit_power_law(points, lowest * k / _FLOORS) for k in range(_FLOORS)]
    freedom = len(points) - 3
    allowed = min(fit.misfit for fit in fits) * (1 + _student(freedom) ** 2 / freedom)
    return [fit for fit in fits if fit.misfit <= allowed]


def _student(freedom: int) -> float:
    return _STUDENT[freedom - 1] if freedom <= len(_STUDENT) else 2.0
