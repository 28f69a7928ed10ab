"""What governs the schedule: the wished-for retention, steps, limits; each checked when it is made."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from llmquiz.core.errors import ScheduleError

DAY_SECONDS = 86_400

# FSRS-6 as trained on ten thousand collections (https://github.com/open-spaced-repetition/srs-benchmark); those of
# the `fsrs` library.
DEFAULT_PARAMETERS = (
    0.212, 1.2931, 2.3065, 8.2956, 6.4133, 0.8334, 3.0194, 0.001, 1.8722, 0.1666, 0.796,
    1.4835, 0.0614, 0.2629, 1.6483, 0.6014, 1.8729, 0.5425, 0.0912, 0.0658, 0.1542,
)  # fmt: skip

NEW_ORDERS = ("deck", "random")
_STEP = re.compile(r"(?P<amount>\d+(?:\.\d+)?)(?P<unit>[smhd])")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": DAY_SECONDS}
_RANGES: dict[str, tuple[int, int]] = {
    "new_per_day": (0, 9999),
    "reviews_per_day": (0, 9999),
    "maximum_interval": (1, 36500),
    "leech_threshold": (0, 99),
}


@dataclass(frozen=True, slots=True)
class Options:
    """How cards are scheduled and how many a day.

    Attributes:
        desired_retention: probability of recall at which a card is due, 0.7 to 0.99.
        parameters: the 21 weights of FSRS-6.
        learning_steps: seconds between the first answers; empty leaves them to FSRS.
        relearning_steps: seconds between the answers after a lapse; empty leaves them to FSRS.
        new_per_day, reviews_per_day: cards, per study day, over all decks.
        maximum_interval: days.
        leech_threshold: lapses after which a card is a leech, then every half of it again; 0 for never.
        fuzz: spread the intervals a little, so that cards learned together do not stay together.
        new_order: ``deck`` (as the document has them) or ``random``.

    Raises:
        ScheduleError: if a value is outside of its range.
    """

    desired_retention: float = 0.9
    parameters: tuple[float, ...] = DEFAULT_PARAMETERS
    learning_steps: tuple[int, ...] = (60, 600)
    relearning_steps: tuple[int, ...] = (600,)
    new_per_day: int = 20
    reviews_per_day: int = 200
    maximum_interval: int = 36500
    leech_threshold: int = 8
    leech_suspends: bool = True
    bury_siblings: bool = True
    fuzz: bool = True
    new_order: str = "deck"

    def __post_init__(self) -> None:
        _check_number("desired_retention", self.desired_retention, 0.7, 0.99)
        _check_parameters(self.parameters)
        _check_steps("learning_steps", self.learning_steps)
        _check_steps("relearning_steps", self.relearning_steps)
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise ScheduleError(f"schedule: {name} must be a whole number from {low} to {high}, not {value!r}")
        for name in ("leech_suspends", "bury_siblings", "fuzz"):
            if not isinstance(getattr(self, name), bool):
                raise ScheduleError(f"schedule: {name} must be true or false, not {getattr(self, name)!r}")
        if self.new_order not in NEW_ORDERS:
            raise ScheduleError(f"schedule: new_order must be one of {', '.join(NEW_ORDERS)}, not {self.new_order!r}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Options:
        """Options from a settings table; steps may be seconds (``600``) or text (``"10m"``, ``"1d"``).

        Raises:
            ScheduleError: for an unknown name or a value outside of its range.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise ScheduleError(f"schedule: unknown option '{unknown[0]}'; known are {', '.join(sorted(known))}")
        changed = dict(values)
        for name in ("learning_steps", "relearning_steps"):
            if name in changed:
                changed[name] = tuple(_seconds(name, step) for step in _items(name, changed[name]))
        if "parameters" in changed:
            changed["parameters"] = tuple(_items("parameters", changed["parameters"]))
        return cls(**changed)


def _items(name: str, value: object) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise ScheduleError(f"schedule: {name} must be a list, not {value!r}")
    return list(value)


def _seconds(name: str, step: object) -> int:
    if isinstance(step, str):
        match = _STEP.fullmatch(step.strip())
        if not match:
            raise ScheduleError(f"schedule: {name}: {step!r} is not a step; write e.g. '30s', '10m', '1h' or '1d'")
        return round(float(match["amount"]) * _UNIT_SECONDS[match["unit"]])
    return step  # type: ignore[return-value]  # a wrong type is refused by the check of the steps


def _check_number(name: str, value: object, low: float, high: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise ScheduleError(f"schedule: {name} must be a number from {low:g} to {high:g}, not {value!r}")


def _check_parameters(parameters: tuple[float, ...]) -> None:
    if len(parameters) != len(DEFAULT_PARAMETERS):
        raise ScheduleError(f"schedule: parameters must be the 21 weights of FSRS-6, not {len(parameters)}")
    for index, weight in enumerate(parameters):
        if not isinstance(weight, int | float) or isinstance(weight, bool) or not math.isfinite(weight):
            raise ScheduleError(f"schedule: parameters[{index}] must be a number, not {weight!r}")


def _check_steps(name: str, steps: tuple[int, ...]) -> None:
    for step in steps:
        if not isinstance(step, int) or isinstance(step, bool) or not 1 <= step <= 365 * DAY_SECONDS:
            raise ScheduleError(f"schedule: {name} must be whole seconds from 1 to a year, not {step!r}")
