"""When a card of Obsidian's plugin comes back: the comment ``<!--SR:!2023-09-02,4,270!2023-09-05,7,290-->`` behind it.

A comment has an entry for each card of the text, in order: due date, interval in days, ease in hundredths (SM-2), or,
since 2026, ``!fsrs,due,interval,stability,difficulty,state,reps,lapses,step,last review``. A card that is still new
between answered ones has the date 2000-01-01.
https://stephenmwangi.com/obsidian-spaced-repetition/data-storage/
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import date, datetime

from llmquiz.anki.importing.sm2 import Recaller
from llmquiz.core.day import Calendar
from llmquiz.core.fsrs import STABILITY_MAX, stored
from llmquiz.core.options import DAY_SECONDS
from llmquiz.core.schedule import Memory, Schedule, State

COMMENT = re.compile(r"<!--SR:(?P<entries>(?:(?!<!--SR:)[^\n])*?)-->")
_NEW = date(2000, 1, 1)
_FIRST, _LAST = date(2000, 1, 2), date(2200, 1, 1)
_YEAR_FIRST = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})")
_DAY_FIRST = re.compile(r"(\d{1,2})-(\d{1,2})-(\d{4})")
_STATES = {str(state.value): state for state in State}
_EASES = (100.0, 1000.0)


class CommentError(ValueError):
    """An entry that cannot be read; the message says which."""


class Comments:
    """Reads entries into schedules.

    Args:
        calendar: says at which instant a day starts.
    """

    def __init__(self, calendar: Calendar) -> None:
        self._calendar = calendar
        self._recaller = Recaller((), calendar)

    def schedules(self, entries: str) -> list[Schedule | None]:
        """The schedule of each card, None for a new one.

        Raises:
            CommentError: if an entry is none.
        """
        return [self._schedule(it.strip().split(",")) for it in entries.split("!") if it.strip()]

    def _schedule(self, fields: Sequence[str]) -> Schedule | None:
        if fields[0] == "fsrs":
            return self._fsrs(fields)
        if len(fields) < 2:
            raise CommentError(f"'{','.join(fields)[:40]}' is no due date and interval")
        day = _day(fields[0])
        if day == _NEW:
            return None
        due, interval = _within(day), max(round(_number(fields[1], 0, STABILITY_MAX)), 1)
        ease = _number(fields[2], *_EASES) if len(fields) > 2 else 250.0
        return Schedule(
            state=State.REVIEW,
            due=due,
            interval=interval,
            memory=stored(self._recaller.from_ease(round(ease * 10), interval)),
            last_review=self._calendar.start(due - interval) + DAY_SECONDS / 2,
            reps=1,
        )

    def _fsrs(self, fields: Sequence[str]) -> Schedule | None:
        if len(fields) < 10:
            raise CommentError(f"'{','.join(fields)[:40]}' has {len(fields)} of 10 values")
        _, due, interval, stability, difficulty, state, reps, lapses, _step, last = fields[:10]
        kind = _STATES.get(state.strip())
        if kind is None:
            raise CommentError(f"'{state[:20]}' is no state from 0 to 3")
        if kind is State.NEW:
            return None
        at = self._instant(due)
        days = round(_number(interval, 0, STABILITY_MAX))
        memory = stored(Memory(_number(stability, 0.001, STABILITY_MAX), _number(difficulty, 1, 10)))
        return Schedule(
            state=kind,
            due=self._calendar.day(at) if kind is State.REVIEW else int(at),
            interval={State.REVIEW: max(days, 1), State.RELEARNING: days}.get(kind, 0),
            steps_left=0 if kind is State.REVIEW else 1,
            memory=memory,
            last_review=self._instant(last) if last.strip() != "-" else at - days * DAY_SECONDS,
            reps=round(_number(reps, 0, 1_000_000)),
            lapses=round(_number(lapses, 0, 1_000_000)),
        )

    def _instant(self, text: str) -> float:
        """Unix seconds of an ISO timestamp, in UTC as it is written."""
        try:
            at = datetime.fromisoformat(text.strip())
        except ValueError as error:
            raise CommentError(f"'{text[:40]}' is no time") from error
        _within(at.date())
        return (at if at.tzinfo else at.replace(tzinfo=self._calendar.zone)).timestamp()


def _day(text: str) -> date:
    """A date as 2023-09-02, 02-09-2023 or Sat Sep 02 2023."""
    text = text.strip()
    try:
        if match := _YEAR_FIRST.fullmatch(text):
            return date(int(match[1]), int(match[2]), int(match[3]))
        if match := _DAY_FIRST.fullmatch(text):
            return date(int(match[3]), int(match[2]), int(match[1]))
        _weekday, month, day, year = text.split()
        months = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
        return date(int(year), months.index(month.lower()) + 1, int(day))
    except ValueError as error:
        raise CommentError(f"'{text[:40]}' is no date") from error


def _within(day: date) -> int:
    """The study day of a date that a card can have."""
    if not _FIRST <= day <= _LAST:
        raise CommentError(f"{day} is before {_FIRST.year} or after {_LAST.year}")
    return day.toordinal()


def _number(text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise CommentError(f"'{text[:20]}' is no number") from error
    if not math.isfinite(value) or value < 0:
        raise CommentError(f"'{text[:20]}' is no number from {low:g} to {high:g}")
    return min(max(value, low), high)
