"""When a card comes back: the state of one scheduled card and the options that govern it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class State(IntEnum):
    """Where a card stands in its life, numbered as Anki's card types."""

    NEW = 0
    LEARNING = 1
    REVIEW = 2
    RELEARNING = 3


@dataclass(frozen=True, slots=True)
class Memory:
    """What FSRS believes: stability in days (the delay after which recall falls to 90%), difficulty from 1 to 10."""

    stability: float
    difficulty: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """When one card is due, and what is remembered about it.

    Attributes:
        due: NEW: position in the queue of new cards; LEARNING and RELEARNING: Unix seconds; REVIEW: study day.
        interval: days between the last review and `due`; 0 in LEARNING, in RELEARNING the days after the last step.
        steps_left: learning steps that remain, 0 outside of learning.
        last_review: Unix seconds of the last answer, None for a new card.
        reps: answers so far; lapses: times it was forgotten after graduating.
    """

    state: State = State.NEW
    due: int = 0
    interval: int = 0
    steps_left: int = 0
    memory: Memory | None = None
    last_review: float | None = None
    reps: int = 0
    lapses: int = 0
