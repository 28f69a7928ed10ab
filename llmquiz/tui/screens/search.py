"""Searching all cards as one types, in both languages; Enter shows a card in full."""

from __future__ import annotations

import re
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from llmquiz.core.errors import StoreError
from llmquiz.deck.plain import one_line
from llmquiz.store import SearchHit
from llmquiz.study.words import word
from llmquiz.tui.bindings import bindings
from llmquiz.tui.screens.base import QuizScreen
from llmquiz.tui.text import dotted, muted
from llmquiz.tui.widgets.hints import Hints
from llmquiz.tui.widgets.preview import Preview

LIMIT = 100
_MARKS = re.compile(r"\{\{c\d+::|\}\}|[$`*\\]")  # a snippet is cut out of Markdown, which no longer parses


class SearchScreen(QuizScreen):
    """A query, its hits, and where there is room the card under the cursor."""

    CSS_PATH = "search.tcss"
    AUTO_FOCUS = "#query"
    BINDINGS: ClassVar[list[BindingType]] = bindings("search")

    def compose_body(self) -> ComposeResult:
        yield Input(id="query", compact=True)
        yield Static(id="search-count")
        with Container(id="search-body"):
            yield OptionList(id="hits", compact=True)
            with VerticalScroll(id="search-preview", can_focus=False):
                yield Preview()
        yield Hints(id="hints")

    def on_mount(self) -> None:
        self._hits: list[SearchHit] = []
        self.query_one("#hits").can_focus = False
        self.relabel()

    def relabel(self) -> None:
        self.query_one(Input).placeholder = self.say("search_placeholder")
        self.query_one(Hints).offer(("search.open", "search.down", "app.back"))
        self._search(self.query_one(Input).value)

    def on_input_changed(self, event: Input.Changed) -> None:
        self._search(event.value)

    def on_input_submitted(self) -> None:
        self.action_open()

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        self._preview()

    def on_option_list_option_selected(self) -> None:
        self.action_open()

    def action_move(self, by: int) -> None:
        hits = self.query_one("#hits", OptionList)
        if self._hits:
            hits.highlighted = min(len(self._hits) - 1, max(0, (hits.highlighted or 0) + by))

    def action_open(self) -> None:
        """Show the card under the cursor in full."""
        from llmquiz.tui.screens.card import CardScreen

        hit = self._hit()
        if hit is not None:
            self.quiz.push_screen(CardScreen(hit.card_id))

    def _hit(self) -> SearchHit | None:
        place = self.query_one("#hits", OptionList).highlighted
        return self._hits[place] if place is not None and place < len(self._hits) else None

    def _search(self, query: str) -> None:
        hits = self.query_one("#hits", OptionList)
        self._hits = self._found(query)
        hits.clear_options()
        hits.add_options([Option(self._row(hit)) for hit in self._hits])
        hits.highlighted = 0 if self._hits else None
        self.query_one("#search-count", Static).update(muted(self._count(query)))
        self._preview()

    def _found(self, query: str) -> list[SearchHit]:
        if not query.strip():
            return []
        try:
            return self.quiz.services.store.search(query, LIMIT)
        except StoreError as error:
            self.notify(str(error), severity="error", timeout=8, markup=False)
            return []

    def _count(self, query: str) -> str:
        if not query.strip():
            return self.say("search_hint")
        return self.say("search_count", n=len(self._hits)) if self._hits else self.say("search_none", query=query)

    def _row(self, hit: SearchHit) -> Content:
        front = hit.fronts.get(self.lang) or next(iter(hit.fronts.values()), hit.card_id)
        state = word("suspended", self.lang) if hit.suspended else ""
        flag = f"⚑ {self.say(f'flag_{hit.flag}')}" if hit.flag else ""
        wide = self.query_one("#search-preview").display
        facts = dotted(self.quiz.services.deck_title(hit.deck, self.lang), word(hit.kind, self.lang), state, flag)
        said = [] if wide else [muted(_MARKS.sub("", hit.snippet))]
        return Content("\n").join([Content(one_line(front)), facts, *said, ""])

    def _preview(self) -> None:
        hit = self._hit()
        preview = self.query_one(Preview)
        if hit is None:
            preview.clear()
        elif self.query_one("#search-preview").display:
            preview.show(self.quiz.services.store.card(hit.card_id))
