"""The study day: it rolls over at 4 am, so that a card learned at 11 pm is not due at midnight.

A day is an integer, the proleptic ordinal of its local date (`datetime.date.toordinal`). Instants are Unix seconds. A
day lasts 23 to 25 hours, and where a zone changed sides of the date line none at all or two: count days, never seconds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from typing import Protocol

ROLLOVER_HOUR = 4


@dataclass(frozen=True, slots=True)
class Calendar:
    """Turns instants into study days.

    Args:
        rollover_hour: local hour at which a new day starts, 0-23.
        zone: time zone; None for the system's own.
    """

    rollover_hour: int = ROLLOVER_HOUR
    zone: tzinfo | None = None

    def day(self, at: float) -> int:
        """The study day of the instant `at` (Unix seconds)."""
        return (self._local(at) - timedelta(hours=self.rollover_hour)).date().toordinal()

    def start(self, day: int) -> float:
        """The instant at which `day` starts, in Unix seconds."""
        naive = datetime.combine(date.fromordinal(day), datetime.min.time()).replace(hour=self.rollover_hour)
        return (naive.replace(tzinfo=self.zone) if self.zone else naive).timestamp()

    def _local(self, at: float) -> datetime:
        if self.zone is not None:
            return datetime.fromtimestamp(at, self.zone).replace(tzinfo=None)
        return datetime.fromtimestamp(at)


class Clock(Protocol):
    """Where the present comes from: Unix seconds. Tests pass a frozen one."""

    def __call__(self) -> float: ...


SYSTEM_CLOCK: Clock = time.time
