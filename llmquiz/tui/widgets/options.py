"""The options of a choice card, by letter; after the reveal the right one is ticked, each wrong one says why."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.events import Click
from textual.geometry import Size
from textual.message import Message
from textual.widget import Widget

from llmquiz.tui.faces import Option
from llmquiz.tui.prose import Block, blocks, set_lines

INDENT = 5


class Options(Widget):
    """Four options or so. A click picks one, as its letter or number does."""

    DEFAULT_CSS = """
    Options { height: auto; width: 1fr; }
    """

    class Picked(Message):
        """An option was clicked; `number` counts from 1."""

        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._options: Sequence[Option] = ()
        self._picked: int | None = None
        self._revealed = False
        self._rows: list[int] = []
        self.display = False

    def show(self, options: Sequence[Option], *, picked: int | None, revealed: bool) -> None:
        """Draw the options; `picked` counts from 1."""
        self._options, self._picked, self._revealed = options, picked, revealed
        self.display = bool(options)
        self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._lines(width))

    def render(self) -> Content:
        return Content("\n").join(self._lines(self.content_size.width))

    def on_click(self, event: Click) -> None:
        if not self._revealed and 0 <= event.y < len(self._rows):
            self.post_message(self.Picked(self._rows[event.y]))

    def _lines(self, width: int) -> list[Content]:
        lines: list[Content] = []
        self._rows = []
        for number, option in enumerate(self._options, 1):
            new = self._option(number, option, width)
            lines += new
            self._rows += [number] * len(new)
        return lines

    def _option(self, number: int, option: Option, width: int) -> list[Content]:
        indent = Content(" " * INDENT)
        lines = [
            line
            for index, block in enumerate(blocks(option.text))
            for line in Block(block.lines, indent if index else self._head(number, option), indent).set(width)
        ]
        if self._revealed and option.why and not option.right:
            why = set_lines(blocks(option.why), max(width - INDENT, 8))
            lines += [indent + line.stylize_before("$muted") for line in why]
        if not self._revealed or option.right or number == self._picked:
            return lines
        return [line.stylize_before("$muted") for line in lines]

    def _head(self, number: int, option: Option) -> Content:
        chosen = number == self._picked
        if not self._revealed:
            return Content.assemble("  ", (option.letter, "bold $primary"), "  ")
        sign, style = ("✓", "bold $success") if option.right else ("✗", "$error") if chosen else (" ", "$muted")
        return Content.assemble(Content.styled(sign, style), " ", Content.styled(option.letter, style), "  ")
