"""How many cards fall due on each of the coming days, as far as is known today: answers to come move them again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from llmquiz.core.day import Calendar
from llmquiz.core.schedule import State
from llmquiz.store import Store

# In the words of the partial index `schedule_queue`.
COUNTED = "suspended = 0 AND retired = 0"


@dataclass(frozen=True, slots=True)
class Forecast:
    """Cards due by study day.

    Attributes:
        day: today.
        overdue: reviews that were due before today.
        due: cards due today, tomorrow and so on; today's without the overdue ones, with those in learning.
    """

    day: int
    overdue: int
    due: tuple[int, ...]

    @property
    def now(self) -> int:
        """Cards due today, the overdue ones among them."""
        return self.overdue + (self.due[0] if self.due else 0)


def forecast(store: Store, now: float, calendar: Calendar, days: int = 30) -> Forecast:
    """The cards due within `days` study days of the instant `now`, the first being today."""
    today = calendar.day(now)
    counts = Counter(dict(store.connection.execute(_REVIEWS, {"end": today + days})))
    overdue = sum(count for day, count in counts.items() if day < today)
    for (due,) in store.connection.execute(_STEPS):
        counts[max(calendar.day(due), today)] += 1
    return Forecast(today, overdue, tuple(counts[day] for day in range(today, today + days)))


_REVIEWS = f"""
SELECT due, count(*) FROM schedule WHERE state = {State.REVIEW:d} AND due < :end AND {COUNTED} GROUP BY due
"""
_STEPS = f"""
SELECT due FROM schedule WHERE state IN ({State.LEARNING:d}, {State.RELEARNING:d}) AND {COUNTED}
"""
