"""An error that work cannot go on with: what failed, why, and what to do, until the user closes it."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from llmquiz.study.words import word
from llmquiz.tui.prose import paragraph
from llmquiz.tui.screens.base import QuizModal
from llmquiz.tui.text import muted


class ErrorModal(QuizModal):
    """Shows `title`, the error's own line, and what to do next."""

    CSS_PATH = "dialog.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter,space,escape,q", "dismiss", show=False)]

    def __init__(self, title: str, error: str, hint: str) -> None:
        super().__init__()
        self._title, self._error, self._hint = title, error, hint

    def compose(self) -> ComposeResult:
        close = Content.assemble(("enter", "bold"), (f"  {word('close', self.quiz.lang)}", "$muted"))
        with Vertical(id="dialog"):
            yield Static(Content.styled(f"! {self._title}", "bold $error"))
            yield Static(Content("\n").join(paragraph(Content(self._error))(200)), classes="spaced")
            yield Static(muted(self._hint), classes="spaced")
            yield Static(close, classes="spaced")
