"""Fuzz: an interval is drawn from a range around its ideal, so that cards learned together drift apart.

The ranges are Anki's: none below 2.5 days, else one day and 15% of the days from 2.5 to 7, 10% of those from 7 to 20
and 5% of the rest (https://docs.ankiweb.net/studying.html#fuzz-factor). The place within the range is a fraction that
depends on the card and its number of answers alone.
"""

from __future__ import annotations

from math import floor, inf

_RANGES = ((2.5, 7.0, 0.15), (7.0, 20.0, 0.10), (20.0, inf, 0.05))
_SHORTEST = 2.5
_STEP_SHARE = 0.25
_STEP_MOST_SECONDS = 300


def half_up(value: float) -> int:
    """`value` rounded to a whole number, halves upwards (Python's own `round` takes halves to the even side)."""
    return floor(value + 0.5)


def bounds(interval: float, minimum: int, maximum: int) -> tuple[int, int]:
    """The shortest and the longest interval, in days, that fuzz may choose for `interval`, within the limits given."""
    minimum = min(minimum, maximum)
    interval = min(max(interval, minimum), maximum)
    spread = _spread(interval)
    lower = min(max(half_up(interval - spread), minimum), maximum)
    upper = min(max(half_up(interval + spread), minimum), maximum)
    if lower == upper and 2 < upper < maximum:
        upper += 1
    return lower, upper


def days(interval: float, minimum: int, maximum: int, fraction: float | None) -> int:
    """`interval` in whole days from `minimum` to `maximum`: drawn by `fraction` (0 to 1), or rounded if it is None."""
    if fraction is None:
        return min(max(half_up(interval), min(minimum, maximum)), maximum)
    lower, upper = bounds(interval, minimum, maximum)
    return min(floor(lower + fraction * (1 + upper - lower)), upper)


def floor_of_passed(interval: float, previous: int, maximum: int) -> int:
    """The shortest interval, in days, that a passed review may get after one of `previous` days.

    It grows where the ideal grows; it stays where only fuzz would shrink it; it may shrink where the ideal lies
    clearly below, as after a change of the wished-for retention.
    """
    if half_up(interval) > previous:
        return previous + 1
    return previous if previous <= bounds(interval, 1, maximum)[1] else 0


def step_seconds(seconds: int, fraction: float | None) -> int:
    """A learning step of `seconds`, up to a quarter longer but at most five minutes."""
    if fraction is None:
        return seconds
    return seconds + floor(fraction * floor(min(seconds * _STEP_SHARE, _STEP_MOST_SECONDS)))


def _spread(interval: float) -> float:
    if interval < _SHORTEST:
        return 0.0
    spread = 1.0
    for start, end, share in _RANGES:
        if interval > start:
            spread += share * (min(interval, end) - start)
    return spread
