"""Below the card: first how to see the answer, then the four ratings with when each brings the card back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.widget import Widget

from llmquiz.core.rating import Rating
from llmquiz.study.words import rating_word

if TYPE_CHECKING:
    from llmquiz.tui.app import LlmquizApp

WIDEST = 88  # columns; wider, the four would lose sight of each other
STYLES = {
    Rating.AGAIN: "$error",
    Rating.HARD: "$warning",
    Rating.GOOD: "$success",
    Rating.EASY: "$primary",
}


class Ratings(Widget):
    """Four columns of two rows; the suggested one is filled and pointed at. A click rates."""

    DEFAULT_CSS = """
    Ratings { height: 2; width: 1fr; }
    """

    class Chosen(Message):
        """A rating was clicked."""

        def __init__(self, rating: Rating) -> None:
            super().__init__()
            self.rating = rating

    class Asked(Message):
        """The prompt to show the answer was clicked."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._labels: Mapping[Rating, str] = {}
        self._marked = Rating.GOOD
        self._prompt = Content.empty()

    def ask(self, prompt: Content) -> None:
        """Before the reveal: one line that says how to go on."""
        self._labels, self._prompt = {}, prompt
        self.add_class("-asking")
        self.refresh()

    def offer(self, labels: Mapping[Rating, str], marked: Rating) -> None:
        """After the reveal: the interval of each rating, and the one that space takes."""
        self._labels, self._marked = labels, marked
        self.remove_class("-asking")
        self.refresh()

    def render(self) -> Content:
        width = self.content_size.width
        if not self._labels:
            return self._prompt.truncate(width, ellipsis=True)
        cell = min(width, WIDEST) // len(Rating)
        names = [self._centred(self._title(rating), cell, rating) for rating in Rating]
        times = [self._centred(Content.styled(self._labels[rating], "$muted"), cell, rating) for rating in Rating]
        return Content("\n").join([Content("").join(names), Content("").join(times)])

    def on_click(self, event: Click) -> None:
        if not self._labels:
            self.post_message(self.Asked())
        elif self.size.width:
            cell = min(self.size.width, WIDEST) // len(Rating)
            column = (event.x - (self.size.width - cell * len(Rating)) // 2) // cell
            if 0 <= column < len(Rating):
                self.post_message(self.Chosen(Rating(column + 1)))

    def _title(self, rating: Rating) -> Content:
        app = cast("LlmquizApp", self.app)
        sign = app.key_sign(f"study.{rating.name.lower()}")
        pointer = "▸ " if rating is self._marked else ""
        return Content.assemble(
            (f"{pointer}{sign} ", "$muted"), (rating_word(rating, app.lang), f"bold {STYLES[rating]}")
        )

    def _centred(self, text: Content, width: int, rating: Rating) -> Content:
        text = text.truncate(width - 2, ellipsis=True)
        left = (width - 2 - text.cell_length) // 2
        inner = text.pad_left(left).pad_right(width - 2 - left - text.cell_length)
        if rating is self._marked:
            inner = inner.stylize_before("on $panel")
        return inner.pad_left(1).pad_right(1)
