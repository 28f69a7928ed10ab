"""What must never be lost: cards, schedules, reviews and lab runs in one SQLite file.

`Store` is the only door; the modules beside it each hold one part of what it does.
"""

from llmquiz.store.records import (
    CardProgress,
    DeckCounts,
    PredictionRecord,
    ReviewRecord,
    RunRecord,
    SearchHit,
    SyncReport,
)
from llmquiz.store.store import Store

__all__ = [
    "CardProgress",
    "DeckCounts",
    "PredictionRecord",
    "ReviewRecord",
    "RunRecord",
    "SearchHit",
    "Store",
    "SyncReport",
]
