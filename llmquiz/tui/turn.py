"""One turn of a card: asked, answered in the way of its kind, revealed. What is suggested follows from the answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmquiz.core.card import Kind
from llmquiz.core.rating import Rating
from llmquiz.study.grading import key_points_rating

if TYPE_CHECKING:
    from llmquiz.core.card import Card
    from llmquiz.lab.predictions import PredictionScore
    from llmquiz.study.session import Prompt

MAX_MS = 60 * 60 * 1000  # a card left open overnight is not a night of study


@dataclass(slots=True)
class Turn:
    """What has happened to the card on the screen.

    Attributes:
        shown_at: Unix seconds.
        picked: number of the option picked, from 1.
        guess: of a predict card, in the metric's unit; `measured` and `score` once its lab ran.
        ticked: key points that the learner named.
    """

    prompt: Prompt
    shown_at: float
    revealed: bool = False
    picked: int | None = None
    guess: float | None = None
    measured: float | None = None
    score: PredictionScore | None = None
    ticked: set[int] = field(default_factory=set)

    @property
    def card(self) -> Card:
        """The card that is asked."""
        return self.prompt.card

    @property
    def options(self) -> int:
        """How many options can be picked now; 0 unless it is an open choice card."""
        return 0 if self.revealed or self.card.kind is not Kind.CHOICE else len(self.prompt.choice_order)

    @property
    def asks_guess(self) -> bool:
        """Whether a number is asked for now."""
        return self.card.kind is Kind.PREDICT and not self.revealed

    @property
    def points(self) -> int:
        """How many key points can be ticked now."""
        return len(next(iter(self.card.texts.values())).key_points) if self.revealed else 0

    @property
    def suggested(self) -> Rating | None:
        """The rating that the answer suggests; None before it says anything."""
        if self.score is not None:
            return self.score.rating
        if self.picked is not None:
            place = self.prompt.choice_order[self.picked - 1]
            right = next(iter(self.card.texts.values())).choices[place].right
            return Rating.GOOD if right else Rating.AGAIN
        return key_points_rating(len(self.ticked), self.points) if self.ticked and self.points else None

    def milliseconds(self, now: float) -> int:
        """How long the card has been on the screen, an hour at most."""
        return min(MAX_MS, max(0, round((now - self.shown_at) * 1000)))
