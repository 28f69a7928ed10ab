"""What the home screen tells about today: decks, how much of each has been learned, the streak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmquiz.store import DeckCounts, Store
    from llmquiz.tui.services import Services


@dataclass(frozen=True, slots=True)
class Overview:
    """Today at a glance.

    Attributes:
        learned: by deck, the share of its cards that have graduated at least once.
        waiting: cards left for today, under the daily limits.
        reviewed, seconds: answers of today and the time they took.
        streak: study days in a row.
    """

    decks: Sequence[DeckCounts]
    learned: Mapping[str, float]
    waiting: int
    reviewed: int
    seconds: float
    streak: int


def overview(services: Services) -> Overview:
    """The overview at the present moment.

    Raises:
        StoreError: if the store cannot be read.
    """
    from llmquiz.study.statistics import streak
    from llmquiz.study.tally import DayTally, daily

    history = daily(services.store)
    today = services.today
    tallied = history.get(today, DayTally())
    return Overview(
        decks=services.deck_counts(),
        learned=_learned(services.store),
        waiting=services.waiting(),
        reviewed=tallied.reviews,
        seconds=tallied.milliseconds / 1000,
        streak=streak(history.keys(), today).current,
    )


def _learned(store: Store) -> dict[str, float]:
    return {deck: share or 0.0 for deck, share in store.connection.execute(_LEARNED)}


_LEARNED = """
SELECT deck, avg(state IN (2, 3)) FROM schedule JOIN card ON card.id = schedule.card
WHERE archived_at IS NULL AND retired = 0 GROUP BY deck
"""
