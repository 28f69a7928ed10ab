"""What every screen of llmquiz has: the app's language, its words, and a curtain for terminals that are too small."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widget import Widget

from llmquiz.core.card import Lang
from llmquiz.study.words import word
from llmquiz.tui.bindings import bindings

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from llmquiz.tui.app import LlmquizApp

SCROLLING = bindings("scroll")


class TooSmall(Widget):
    """Covers a screen that has no room; the screen below keeps its state."""

    DEFAULT_CSS = """
    TooSmall {
        layer: curtain; display: none; width: 100%; height: 100%;
        background: $background; content-align: center middle; text-align: center;
    }
    """

    def render(self) -> Content:
        from llmquiz.tui.app import SMALLEST

        app = cast("LlmquizApp", self.app)
        columns, rows = SMALLEST
        hint = app.say("too_small_hint", columns=columns, rows=rows, width=app.size.width, height=app.size.height)
        return Content.assemble((app.say("too_small"), "bold"), "\n", (hint, "$muted"))


class QuizScreen(Screen[None]):
    """A full screen. `relabel` is called whenever the language changes."""

    DEFAULT_CSS = """
    QuizScreen { layers: base curtain; overflow: hidden; }
    """

    @property
    def quiz(self) -> LlmquizApp:
        """The app."""
        return cast("LlmquizApp", self.app)

    @property
    def lang(self) -> Lang:
        """The language of the interface."""
        return self.quiz.lang

    def word(self, key: str, **fields: object) -> str:
        """An entry of `llmquiz.study.words`."""
        return word(key, self.lang, **fields)

    def say(self, key: str, **fields: object) -> str:
        """An entry of `llmquiz.tui.words`."""
        return self.quiz.say(key, **fields)

    def compose(self) -> ComposeResult:
        yield from self.compose_body()
        yield TooSmall()

    def compose_body(self) -> ComposeResult:
        """The screen's widgets."""
        yield from ()

    def on_mount(self) -> None:
        self.watch(self.quiz, "language", self._relabel_soon, init=False)

    def _relabel_soon(self) -> None:
        self.call_after_refresh(self.relabel)

    def back(self) -> bool:
        """Close what is open on the screen; whether there was anything."""
        return False

    def relabel(self) -> None:
        """Draw all words anew."""


class QuizModal(ModalScreen[None]):
    """A dialog over a screen."""

    @property
    def quiz(self) -> LlmquizApp:
        """The app."""
        return cast("LlmquizApp", self.app)
