"""A row of text that lays itself out for the width it gets."""

from __future__ import annotations

from collections.abc import Callable

from textual.content import Content
from textual.widget import Widget


class Line(Widget):
    """One row; `show` gives it a function from its width in cells to its content."""

    DEFAULT_CSS = """
    Line { height: 1; width: 1fr; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes=classes)
        self._lay_out: Callable[[int], Content] = lambda width: Content.empty()

    def show(self, lay_out: Callable[[int], Content]) -> None:
        """Draw `lay_out(width)` from now on."""
        self._lay_out = lay_out
        self.refresh()

    def render(self) -> Content:
        return self._lay_out(self.content_size.width)
