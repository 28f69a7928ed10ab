"""A lab of its own, opened from the commands: the panel of the study screen, as a whole screen."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType

from llmquiz.core.card import LabLink
from llmquiz.tui.screens.base import SCROLLING, QuizScreen
from llmquiz.tui.widgets.hints import Hints
from llmquiz.tui.widgets.lab_messages import LabClosed
from llmquiz.tui.widgets.lab_panel import LabPanel


class LabScreen(QuizScreen):
    """Runs `lab` with its own defaults."""

    CSS_PATH = "lab.tcss"
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = list(SCROLLING)

    def __init__(self, lab: str) -> None:
        super().__init__()
        self.lab = lab

    def compose_body(self) -> ComposeResult:
        yield LabPanel(LabLink(self.lab))
        yield Hints(id="hints")

    def on_mount(self) -> None:
        self.relabel()

    def relabel(self) -> None:
        self.query_one(LabPanel).draw()
        self.query_one(Hints).offer(("app.back", "scroll.page_down", "app.language", "app.help"))

    def back(self) -> bool:
        """Escape stops the lab, then leaves."""
        self.query_one(LabPanel).stop_or_close()
        return True

    @on(LabClosed)
    def _panel_closed(self) -> None:
        self.quiz.pop_screen()

    def action_scroll(self, by: int) -> None:
        self.query_one(LabPanel).scroll_lines(by)

    def action_page(self, by: int) -> None:
        self.query_one(LabPanel).page(by)

    def action_edge(self, to: int) -> None:
        self.query_one(LabPanel).scroll_lines(to * 10_000)
