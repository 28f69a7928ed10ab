"""What a session has come to so far: ratings and times, for its summary."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmquiz.core.rating import Rating
from llmquiz.study.session import Undone


@dataclass(slots=True)
class Results:
    """The answers of a session that were not taken back, in order, each with its milliseconds."""

    answers: list[tuple[Rating, int]] = field(default_factory=list)

    def add(self, rating: Rating, duration_ms: int) -> None:
        """One more answer."""
        self.answers.append((rating, duration_ms))

    def take_back(self, undone: Undone) -> None:
        """If an answer was undone, forget it; it may have been given before this session."""
        if undone.kind == "rate" and self.answers:
            self.answers.pop()

    @property
    def remembered(self) -> float | None:
        """Share of answers that passed; None without answers."""
        return sum(rating.passed for rating, _ in self.answers) / len(self.answers) if self.answers else None

    @property
    def seconds(self) -> float:
        """Time spent on all answers."""
        return sum(duration for _, duration in self.answers) / 1000

    def count(self, rating: Rating) -> int:
        """How often `rating` was given."""
        return sum(given is rating for given, _ in self.answers)
