"""A whole card at once, question and answer, for reading rather than studying."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.app import ComposeResult
from textual.containers import Vertical

from llmquiz.core.card import Card
from llmquiz.study.words import word
from llmquiz.tui.faces import Face, face
from llmquiz.tui.text import dotted
from llmquiz.tui.widgets.line import Line
from llmquiz.tui.widgets.prose import Prose

if TYPE_CHECKING:
    from llmquiz.tui.app import LlmquizApp

PARTS = ("choices", "key_points", "symbols", "pitfall", "follow_ups", "sources")


class Preview(Vertical):
    """Reads one card."""

    DEFAULT_CSS = """
    Preview { height: auto; }
    Preview > Prose { margin-bottom: 1; }
    Preview > #preview-facts { margin-bottom: 1; }
    Preview > #preview-question { text-style: bold; }
    """

    def compose(self) -> ComposeResult:
        yield Line(id="preview-facts")
        yield Prose(id="preview-question", balance=True)
        yield Prose(id="preview-answer")
        yield Prose(id="preview-detail")
        for part in PARTS:
            yield Prose(id=f"preview-{part}")

    def show(self, card: Card) -> None:
        """Read `card`."""
        app = cast("LlmquizApp", self.app)
        shown = face(card, app.languages, front_of=lambda id_: app.services.front(id_, app.lang))
        deck = app.services.deck_title(card.deck, app.lang)
        self.query_one("#preview-facts", Line).show(
            lambda width: dotted(deck, card.topic, card.level.value, word(card.kind.value, app.lang)).truncate(width)
        )
        self._prose("question").show(shown.question)
        self._prose("answer").show("\n\n".join(part for part in (shown.sentence_shown, shown.answer) if part))
        self._prose("detail").show(shown.detail)
        for part in PARTS:
            self._prose(part).show(part_of(shown, part), label=word(part, app.lang))

    def clear(self) -> None:
        """Read nothing."""
        self.query_one("#preview-facts", Line).show(lambda width: dotted())
        for prose in self.query(Prose):
            prose.show("")

    def _prose(self, part: str) -> Prose:
        return self.query_one(f"#preview-{part}", Prose)


def part_of(shown: Face, part: str) -> str:
    """A part of a card as one piece of Markdown."""
    if part == "choices":
        return "\n".join(f"- {'✓ ' if option.right else ''}{option.text}" for option in shown.options)
    if part == "key_points":
        return "\n".join(f"- {point}" for point in shown.key_points)
    return str(getattr(shown, part))
