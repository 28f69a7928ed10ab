"""Key points as a checklist: what a listener would tick. A cursor walks it, `x` or a click ticks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from textual.content import Content
from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from llmquiz.study.words import word
from llmquiz.tui.prose import blocks, set_lines
from llmquiz.tui.text import apart, muted

if TYPE_CHECKING:
    from llmquiz.tui.app import LlmquizApp

INDENT = 4


class KeyPoints(Widget):
    """The checklist. `cursor` is the point that a key would tick."""

    DEFAULT_CSS = """
    KeyPoints { height: auto; width: 1fr; }
    """

    cursor: reactive[int] = reactive(0)

    class Toggled(Message):
        """A point was clicked."""

        def __init__(self, point: int) -> None:
            super().__init__()
            self.point = point

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._points: Sequence[str] = ()
        self._ticked: frozenset[int] = frozenset()
        self._rows: list[int] = []
        self.display = False

    def show(self, points: Sequence[str], ticked: set[int]) -> None:
        """Draw `points`; those in `ticked` were named."""
        if points != self._points:
            self.set_reactive(KeyPoints.cursor, 0)
        self._points, self._ticked = points, frozenset(ticked)
        self.display = bool(points)
        self.refresh(layout=True)

    def move(self, by: int) -> None:
        """Move the cursor, around the ends."""
        if self._points:
            self.cursor = (self.cursor + by) % len(self._points)

    def tick(self, ticked: set[int]) -> None:
        """Draw other ticks on the same points."""
        self._ticked = frozenset(ticked)
        self.refresh()

    def cursor_region(self) -> Region:
        """Where the point under the cursor stands, within the widget's parent."""
        rows = [row for row, point in enumerate(self._rows) if point == self.cursor] or [0]
        place = self.virtual_region
        return Region(place.x, place.y + rows[0], place.width, len(rows))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._lines(width))

    def render(self) -> Content:
        return Content("\n").join(self._lines(self.content_size.width))

    def on_click(self, event: Click) -> None:
        if 0 <= event.y < len(self._rows) and self._rows[event.y] >= 0:
            self.post_message(self.Toggled(self._rows[event.y]))

    def _lines(self, width: int) -> list[Content]:
        app = cast("LlmquizApp", self.app)
        named = app.say("points_said", ticked=len(self._ticked), total=len(self._points)) if self._ticked else ""
        lines = [apart(muted(word("key_points", app.lang)), muted(named), width)]
        self._rows = [-1]
        for index, point in enumerate(self._points):
            text = set_lines(blocks(point), max(width - INDENT, 8))
            lines += [(Content(" " * INDENT) if i else self._head(index)) + line for i, line in enumerate(text)]
            self._rows += [index] * len(text)
        return lines

    def _head(self, index: int) -> Content:
        here = Content.styled("› " if index == self.cursor else "  ", "bold $primary")
        return here + (
            Content.styled("✓ ", "bold $success") if index in self._ticked else Content.styled("○ ", "$muted")
        )
