"""The four answers to "how well did you know it?"."""

from __future__ import annotations

from enum import IntEnum


class Rating(IntEnum):
    """A grade, numbered as in Anki and FSRS."""

    AGAIN = 1
    HARD = 2
    GOOD = 3
    EASY = 4

    @property
    def passed(self) -> bool:
        """Whether the card was recalled at all."""
        return self is not Rating.AGAIN
