"""The first rows of a study screen: where the card is from, what is left, the time, and a thin line of progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content

from llmquiz.core.schedule import State
from llmquiz.study.words import word
from llmquiz.tui.text import apart, bar, dotted, muted
from llmquiz.tui.widgets.line import Line

if TYPE_CHECKING:
    from llmquiz.study.session import Counts
    from llmquiz.tui.app import LlmquizApp

NAMES = {"new": "$primary", "learning": "$warning", "review": "$success"}
QUEUE = {State.NEW: "new", State.LEARNING: "learning", State.RELEARNING: "learning", State.REVIEW: "review"}


class StudyHeader(Vertical):
    """Two rows. The queue that the present card comes from is underlined."""

    DEFAULT_CSS = """
    StudyHeader { height: 2; padding: 0 3; }
    #header-row { height: 1; }
    #header-timer { width: 8; }
    """

    def compose(self) -> ComposeResult:
        with Horizontal(id="header-row"):
            yield Line(id="header-facts")
            yield Line(id="header-timer")
        yield Line(id="header-progress")

    def show(self, deck: str, topic: str, counts: Counts, state: State, answered: int) -> None:
        """Draw where the card is from and what is left in each queue."""
        self._where, self._counts, self._state = (deck, topic), counts, state
        left = counts.new + counts.learning + counts.review
        share = answered / (answered + left) if answered + left else 1.0
        self.query_one("#header-progress", Line).show(lambda width: bar(share, width))
        self.query_one("#header-facts", Line).show(self._facts)

    def tick(self, seconds: int) -> None:
        """Draw the time spent on the card so far."""
        timer = muted(f"{seconds // 60}:{seconds % 60:02}")
        self.query_one("#header-timer", Line).show(lambda width: timer.pad_left(max(0, width - timer.cell_length)))

    def _facts(self, width: int) -> Content:
        deck, topic = self._where
        left = dotted(Content.styled(deck, "bold"), topic) if width >= 54 else Content.styled(deck, "bold")
        return apart(left, self._queues(width >= 64), width)

    def _queues(self, words: bool) -> Content:
        lang = cast("LlmquizApp", self.app).lang
        parts = []
        for name, style in NAMES.items():
            number = getattr(self._counts, name)
            here = " underline" if name == QUEUE[self._state] else ""
            text = Content.styled(str(number), f"bold {style}{here}" if number else "$muted")
            parts.append(text + muted(f" {word(name, lang)}") if words else text)
        return Content("  " if words else " ").join(parts)
