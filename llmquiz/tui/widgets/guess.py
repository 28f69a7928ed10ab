"""Where a predict card asks for a number, and where guess and measured number meet."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.events import Key
from textual.message import Message
from textual.widgets import Input, Static

from llmquiz.study import grading
from llmquiz.study.words import word

if TYPE_CHECKING:
    from llmquiz.tui.app import LlmquizApp
    from llmquiz.tui.turn import Turn

NUMBER = "0123456789.eE+-%,"


class NumberInput(Input):
    """Takes the signs of a number; every other key stays a command."""

    def check_consume_key(self, key: str, character: str | None) -> bool:
        return character is not None and character in NUMBER

    async def _on_key(self, event: Key) -> None:
        # Textual calls the handler of each class in turn; preventing the default leaves the key to the bindings.
        if event.is_printable and not self.check_consume_key(event.key, event.character):
            event.prevent_default()


class GuessRow(Horizontal):
    """An input with its unit, or after the reveal the guess beside what was measured."""

    class Guessed(Message):
        """A number above zero was entered, or nothing."""

        def __init__(self, guess: float | None) -> None:
            super().__init__()
            self.guess = guess

    def compose(self) -> ComposeResult:
        yield NumberInput(id="guess-input", compact=True, select_on_focus=False)
        yield Static(id="guess-unit", markup=False)
        yield Static(id="guess-result")

    def on_mount(self) -> None:
        self.display = False

    def show(self, turn: Turn) -> None:
        """Draw the input, or what became of the guess."""
        app = cast("LlmquizApp", self.app)
        field = self.query_one(NumberInput)
        field.placeholder = app.say("guess_placeholder")
        field.display = turn.asks_guess
        self.query_one("#guess-unit").display = turn.asks_guess
        self.query_one("#guess-result", Static).update(self._result(turn))
        self.display = turn.asks_guess or turn.guess is not None

    def reset(self, unit: str) -> None:
        """An empty input for a metric measured in `unit`."""
        self.query_one(NumberInput).value = ""
        self.query_one("#guess-unit", Static).update(unit)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        try:
            guess = grading.guess(event.value) if event.value.strip() else None
        except ValueError:
            app = cast("LlmquizApp", self.app)
            app.notify(app.say("guess_bad"), severity="warning", timeout=3)
        else:
            self.post_message(self.Guessed(guess))

    def _result(self, turn: Turn) -> Content:
        app = cast("LlmquizApp", self.app)
        if turn.guess is None or not turn.revealed:
            return Content.empty()
        guess = f"{turn.guess:.4g}"
        if turn.score is None or turn.measured is None:
            return Content.assemble((app.say("guess_kept") + "  ", "$muted"), (guess, "bold"))
        return Content.assemble(
            (app.say("guess_kept") + "  ", "$muted"),
            (guess, "bold"),
            ("   " + word("measured", app.lang) + "  ", "$muted"),
            (f"{turn.measured:.4g}", "bold"),
            ("   " + app.say("off_by", factor=f"{turn.score.factor:.3g}"), "$muted"),
        )
