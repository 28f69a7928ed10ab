"""The list of decks: what each has for today, and how much of it has been learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from llmquiz.tui.text import bar, muted

if TYPE_CHECKING:
    from llmquiz.store import DeckCounts
    from llmquiz.tui.app import LlmquizApp

COLUMNS = ("new", "learning", "due")
STYLES = {"new": "$primary", "learning": "$warning", "due": "$success"}
CELLS = {"new": 8, "learning": 10, "due": 8}
NARROW_CELL = 7
WIDE = 66  # columns from which the bars are shown
BAR = 12
POINTER = 2


class DeckList(OptionList):
    """One row a deck; the highlighted one also carries a pointer, so that colour is not needed to see it."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, compact=True)
        self._decks: Sequence[DeckCounts] = ()
        self._learned: Mapping[str, float] = {}

    def show(self, decks: Sequence[DeckCounts], learned: Mapping[str, float]) -> None:
        """List `decks`; `learned` is the share of each that has been studied, by id."""
        place = self.highlighted
        self._decks, self._learned = decks, learned
        self.clear_options()
        self.add_options([Option(self._row(index), id=deck.id) for index, deck in enumerate(decks)])
        if decks:
            self.highlighted = min(place or 0, len(decks) - 1)

    def deck(self) -> DeckCounts | None:
        """The deck under the cursor."""
        return None if self.highlighted is None else self._decks[self.highlighted]

    def move(self, by: int) -> None:
        """Move the cursor by `by` rows, not past the ends."""
        if self._decks:
            self.highlighted = min(len(self._decks) - 1, max(0, (self.highlighted or 0) + by))

    def on_resize(self) -> None:
        self._redraw(range(len(self._decks)))

    def watch_highlighted(self, highlighted: int | None) -> None:
        super().watch_highlighted(highlighted)
        self._redraw(range(len(self._decks)))

    def head(self, width: int) -> Content:
        """The names of the columns, above the rows."""
        app = cast("LlmquizApp", self.app)
        names = {name: app.say(f"column_{name}" if width >= WIDE else f"short_{name}") for name in COLUMNS}
        cells = Content("").join(_right(muted(said), self._cell(name, width)) for name, said in names.items())
        if width >= WIDE:
            learned = muted(app.say("column_memory"))
            cells += Content("   ") + learned.pad_right(max(0, BAR + 5 - learned.cell_length))
        return cells.pad_left(max(0, width - cells.cell_length))

    @staticmethod
    def _cell(name: str, width: int) -> int:
        return CELLS[name] if width >= WIDE else NARROW_CELL

    def _redraw(self, rows: Sequence[int]) -> None:
        for index in rows:
            if index < self.option_count:
                self.replace_option_prompt_at_index(index, self._row(index))

    def _row(self, index: int) -> Content:
        app = cast("LlmquizApp", self.app)
        deck, width = self._decks[index], self.scrollable_content_region.width or 76
        title = deck.titles.get(app.lang) or next(iter(deck.titles.values()), deck.id)
        cells = Content("").join(_count(name, getattr(deck, name), self._cell(name, width)) for name in COLUMNS)
        if width >= WIDE:
            share = self._learned.get(deck.id, 0.0)
            percent = f"{share:.0%}".rjust(5)
            cells += Content("   ") + bar(share, BAR) + muted(percent)
        here = index == self.highlighted
        room = width - cells.cell_length - POINTER
        name = Content.styled(title, "bold" if here else "").truncate(max(room, 4), ellipsis=True)
        pointer = Content.styled("▸ ", "bold $primary") if here else Content("  ")
        return pointer + name.pad_right(max(0, room - name.cell_length)) + cells


def _count(name: str, number: int, cell: int) -> Content:
    return _right(Content.styled(str(number), STYLES[name]) if number else Content.styled("·", "$faint"), cell)


def _right(text: Content, cell: int) -> Content:
    return text.pad_left(max(0, cell - text.cell_length))
