"""The last row: the keys that matter now, as many as fit; each can be clicked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from textual.content import Content
from textual.events import Click

from llmquiz.tui.bindings import find
from llmquiz.tui.widgets.line import Line

if TYPE_CHECKING:
    from llmquiz.tui.app import LlmquizApp

GAP = 3


class Hints(Line):
    """Keys and what they do, most important first; the last one is kept when there is too little room."""

    DEFAULT_CSS = """
    Hints { padding: 0 3; color: $muted; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._ids: Sequence[str] = ()
        self._words: Mapping[str, str] = {}

    def offer(self, ids: Sequence[str], words: Mapping[str, str] | None = None) -> None:
        """Show the bindings `ids`; `words` says what one does when its own word does not fit the moment."""
        self._ids, self._words = ids, words or {}
        self.show(lambda width: Content(" " * GAP).join(hint for _, hint in self._fitting(width)))

    async def on_click(self, event: Click) -> None:
        """Do what the key under the pointer does."""
        column = event.x - self.styles.padding.left
        for id_, hint in self._fitting(self.content_size.width):
            if 0 <= column < hint.cell_length:
                action = find(id_).action
                await self.run_action(action if action.startswith("app.") else f"screen.{action}")
            column -= hint.cell_length + GAP

    def _fitting(self, width: int) -> list[tuple[str, Content]]:
        hints = [(id_, self._hint(id_)) for id_ in self._ids]
        if not hints:
            return []
        room = width - hints[-1][1].cell_length
        kept: list[tuple[str, Content]] = []
        for id_, hint in hints[:-1]:
            if hint.cell_length + GAP > room:
                break
            room -= hint.cell_length + GAP
            kept.append((id_, hint))
        return [*kept, hints[-1]]

    def _hint(self, id_: str) -> Content:
        app = cast("LlmquizApp", self.app)
        word = self._words.get(id_) or find(id_).short[app.lang]
        return Content.assemble((app.key_sign(id_), "bold $foreground"), f" {word}")
