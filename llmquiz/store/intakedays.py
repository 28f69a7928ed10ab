"""Study days by arithmetic: a log is cut where a clock was changed, and in between each day lasts 24 hours.

Then SQL can say on which day an answer was given. The days around a change are odd, and the calendar is asked for each
of their answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from llmquiz.core.day import Calendar

DAY_MS = 86_400_000
_DAY_SECONDS = 86_400
_STEP = 5
"""Days that are looked at at once: no zone ever put its clock to and fro within so few."""


class Stretch(NamedTuple):
    """A piece of time.

    Attributes:
        first, end: milliseconds since the epoch; `end` is no part of it.
        start: the millisecond, at or before `first`, at which `day` starts; another one starts each 24 hours after.
        day: a study day; None where the days are odd.
    """

    first: int
    end: int
    start: int
    day: int | None


def stretches(calendar: Calendar, first_ms: int, last_ms: int) -> Iterator[Stretch]:
    """The pieces, without gaps, of the time from `first_ms` to `last_ms`, both included."""
    for start, end, day in _pieces(calendar, calendar.day(first_ms / 1000) - 1, calendar.day(last_ms / 1000) + 2):
        first, end = max(start, first_ms), min(end, last_ms + 1)
        if first < end:
            yield Stretch(first, end, start, day)


def _pieces(calendar: Calendar, day: int, last: int) -> Iterator[tuple[int, int, int | None]]:
    """Start, end and first day; the day before a change and the one after it count as odd too."""
    begun = day
    while day < last:
        following = min(day + _STEP, last)
        if _is_even(calendar, day, following):
            day = following
            continue
        changed = next(it for it in range(day, following) if not _is_even(calendar, it, it + 1))
        odd, day = max(changed - 1, begun), changed + 2
        yield _ms(calendar, begun), _ms(calendar, odd), begun
        yield _ms(calendar, odd), _ms(calendar, day), None
        begun = day
    yield _ms(calendar, begun), _ms(calendar, max(last, begun)), begun


def _is_even(calendar: Calendar, day: int, following: int) -> bool:
    return calendar.start(following) - calendar.start(day) == (following - day) * _DAY_SECONDS


def _ms(calendar: Calendar, day: int) -> int:
    return int(calendar.start(day) * 1000)
