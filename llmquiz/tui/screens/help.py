"""All keys, made from the table of bindings, with the user's own where they moved one."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from llmquiz import locations
from llmquiz.tui.bindings import GROUPS, KEYS, Key, bindings, signs
from llmquiz.tui.screens.base import QuizModal
from llmquiz.tui.text import muted

SIGNS = 14


class HelpModal(QuizModal):
    """Keys by group, in the language of the interface."""

    CSS_PATH = "help.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark", "dismiss", show=False),
        *bindings("scroll"),
    ]

    def compose(self) -> ComposeResult:
        with Vertical(id="help"):
            yield Static(Content.styled(self.quiz.say("help_title"), "bold"), id="help-title")
            with VerticalScroll(id="help-keys", can_focus=False):
                for group in GROUPS:
                    yield Static(self._group(group), classes="help-group")
                remap = self.quiz.say("help_remap", path=locations.settings_file())
                yield Static(muted(remap), classes="help-group")

    def action_scroll(self, by: int) -> None:
        self._keys.scroll_relative(y=by, animate=False)

    def action_page(self, by: int) -> None:
        self._keys.scroll_relative(y=by * max(1, self._keys.size.height - 1), animate=False)

    def action_edge(self, to: int) -> None:
        self._keys.scroll_to(y=0 if to < 0 else self._keys.max_scroll_y, animate=False)

    @property
    def _keys(self) -> VerticalScroll:
        return self.query_one("#help-keys", VerticalScroll)

    def _group(self, group: str) -> Content:
        title = muted(GROUPS[group][self.quiz.lang])
        return Content("\n").join([title, *(self._row(key) for key in KEYS if key.group == group)])

    def _row(self, key: Key) -> Content:
        sign = Content.styled("  ".join(signs(key, self.quiz.services.settings.keys)), "bold")
        return Content("  ") + sign.pad_right(max(1, SIGNS - sign.cell_length)) + key.text[self.quiz.lang]
