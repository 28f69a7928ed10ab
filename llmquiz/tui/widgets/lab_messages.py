"""What a lab panel tells its screen; apart from the panel, so that a screen without a lab need not import labs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from llmquiz.lab.predictions import PredictionScore


class LabEnded(Message):
    """A lab is over. `judged` and `measured` say how the guess did, if one was made and its number was measured.

    `card` is the id of the card that the lab was opened from.
    """

    def __init__(self, card: str | None, measured: float | None, judged: PredictionScore | None) -> None:
        super().__init__()
        self.card = card
        self.measured = measured
        self.judged = judged


class LabClosed(Message):
    """The panel has nothing more to show."""
