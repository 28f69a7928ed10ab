"""Intervals as a learner reads them on a button: 10m, 3d, 1.2mo, 2.1y. A month is a twelfth of 365 days, as in Anki."""

from __future__ import annotations

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_MONTH_DAYS = 365 / 12


def seconds_label(seconds: float) -> str:
    """A delay within the day, e.g. ``30s``, ``10m``, ``1.5h``."""
    if seconds < _MINUTE:
        return f"{round(seconds)}s"
    if seconds < _HOUR:
        return f"{round(seconds / _MINUTE)}m"
    if seconds < _DAY:
        return f"{_short(seconds / _HOUR)}h"
    return days_label(seconds / _DAY)


def days_label(days: float) -> str:
    """An interval of whole days, e.g. ``3d``, ``1.2mo``, ``2.1y``."""
    if days < _MONTH_DAYS:
        return f"{round(days)}d"
    if days < 365:
        return f"{_short(days / _MONTH_DAYS)}mo"
    return f"{_short(days / 365)}y"


def _short(amount: float) -> str:
    return f"{amount:.1f}".removesuffix(".0")
