"""One card in full, found by search; Enter studies it now."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll

from llmquiz.core.errors import StoreError
from llmquiz.study.queue import Scope
from llmquiz.tui.bindings import bindings
from llmquiz.tui.faces import as_markdown, face
from llmquiz.tui.screens.base import SCROLLING, QuizScreen
from llmquiz.tui.screens.dialog import ErrorModal
from llmquiz.tui.widgets.hints import Hints
from llmquiz.tui.widgets.preview import Preview


class CardScreen(QuizScreen):
    """Reads the card `card_id`."""

    CSS_PATH = "card.tcss"
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("card"), *SCROLLING]

    def __init__(self, card_id: str) -> None:
        super().__init__()
        self.card_id = card_id

    def compose_body(self) -> ComposeResult:
        with VerticalScroll(id="reading", can_focus=False):
            yield Preview()
        yield Hints(id="hints")

    def on_mount(self) -> None:
        self.relabel()

    def relabel(self) -> None:
        self.query_one(Preview).show(self.quiz.services.store.card(self.card_id))
        self.query_one(Hints).offer(
            ("card.study", "card.edit", "card.copy", "card.suspend", "app.language", "app.back")
        )

    def action_study(self) -> None:
        """Ask this card now, whether it is due or not."""
        self.quiz.study(Scope(card=self.card_id))

    def action_edit(self) -> None:
        """Open the card in the user's editor."""
        from llmquiz.tui.editing import edit

        if edit(self.quiz, self.quiz.services.store.card(self.card_id)):
            self.relabel()

    def action_suspend(self) -> None:
        """Put the card away for good, or take it back."""
        services = self.quiz.services
        away = not services.store.is_suspended(self.card_id)
        try:
            services.store.set_suspended(self.card_id, away, now=services.clock(), calendar=services.calendar)
        except StoreError as error:
            self.quiz.push_screen(ErrorModal(self.say("not_written"), str(error), self.say("not_written_hint")))
        else:
            self.notify(self.word("now_suspended" if away else "now_resumed"), timeout=3)

    def action_copy(self) -> None:
        """Copy the card as Markdown."""
        card = self.quiz.services.store.card(self.card_id)
        shown = face(card, self.quiz.languages)
        self.quiz.copy_to_clipboard(as_markdown(shown, self.lang))
        self.notify(self.say("copied"), timeout=2)

    def action_scroll(self, by: int) -> None:
        self._reading.scroll_relative(y=by, animate=False)

    def action_page(self, by: int) -> None:
        self._reading.scroll_relative(y=by * max(1, self._reading.size.height - 2), animate=False)

    def action_edge(self, to: int) -> None:
        self._reading.scroll_to(y=0 if to < 0 else self._reading.max_scroll_y, animate=False)

    @property
    def _reading(self) -> VerticalScroll:
        return self.query_one("#reading", VerticalScroll)
