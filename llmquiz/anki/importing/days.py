"""Anki's days and instants in ours: days since a collection's first, Unix seconds out of any range."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from llmquiz.anki.archive.reading import Tables
from llmquiz.core.day import Calendar

DAYS = (719_165, 1_095_000)  # from 1970 to the year 2999
LAST_INSTANT = 32_503_680_000  # the year 3000


def first_day(tables: Tables, calendar: Calendar) -> int:
    """The study day from which a collection counts, which Anki names by the date on the clock of its creation."""
    if tables.minutes_west is None:
        return calendar.day(instant(tables.created_at))
    there = datetime.fromtimestamp(instant(tables.created_at), UTC) - timedelta(minutes=tables.minutes_west)
    return there.date().toordinal()


def instant(seconds: float) -> float:
    """`seconds` of Unix time, brought between 1970 and the year 3000."""
    return min(max(seconds, 0), LAST_INSTANT)
