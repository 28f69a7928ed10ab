"""The card on the screen: question, what the learner answers with, and after the reveal everything that it teaches."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.geometry import Region

from llmquiz.core.card import Kind
from llmquiz.study.words import frequency_word, word
from llmquiz.tui.faces import Face
from llmquiz.tui.text import dotted, muted
from llmquiz.tui.widgets.guess import GuessRow
from llmquiz.tui.widgets.key_points import KeyPoints
from llmquiz.tui.widgets.line import Line
from llmquiz.tui.widgets.options import Options
from llmquiz.tui.widgets.prose import Prose

if TYPE_CHECKING:
    from llmquiz.core.card import Card
    from llmquiz.tui.app import LlmquizApp
    from llmquiz.tui.turn import Turn

FLAG_STYLES = ("", "$error", "$warning", "$success", "$primary", "$error", "$primary", "$secondary")


class CardPane(VerticalScroll):
    """Scrolls one card. `show` draws a turn; asking it again redraws in place."""

    can_focus = False

    def compose(self) -> ComposeResult:
        with Vertical(id="card"):
            yield Line(id="card-facts")
            yield Prose(id="card-question", balance=True)
            yield Prose(id="card-sentence", strong="bold $accent")
            yield Options(id="card-options")
            yield GuessRow(id="card-guess")
            yield Prose(id="card-answer")
            yield KeyPoints(id="card-points")
            for part in ("detail", "symbols", "pitfall", "follow-ups", "sources"):
                yield Prose(id=f"card-{part}")

    def show(self, turn: Turn, face: Face, *, flag: int) -> None:
        """Draw the card of `turn` as far as it is revealed."""
        lang = cast("LlmquizApp", self.app).lang
        revealed = turn.revealed
        self.query_one("#card-facts", Line).show(lambda width: self._facts(turn.card, flag, turn.prompt.leech))
        self._prose("question").show(face.question)
        self._prose("sentence").show(face.sentence_shown if revealed else face.sentence)
        self.query_one(Options).show(face.options, picked=turn.picked, revealed=revealed)
        self.query_one(GuessRow).show(turn)
        self._prose("answer").show(face.answer if revealed else "")
        self.query_one(KeyPoints).show(face.key_points if revealed else (), turn.ticked)
        for part in ("detail", "symbols", "pitfall", "follow_ups", "sources"):
            text = getattr(face, part) if revealed else ""
            self._prose(part.replace("_", "-")).show(text, label="" if part == "detail" else word(part, lang))
        self.set_class(revealed, "-revealed")

    def show_region(self, region: Region) -> None:
        """Scroll as little as needed to show `region` of the card."""
        card = self.query_one("#card").virtual_region
        self.scroll_to_region(region.translate(card.offset), animate=False)

    def _prose(self, part: str) -> Prose:
        return self.query_one(f"#card-{part}", Prose)

    def _facts(self, card: Card, flag: int, leech: bool) -> Content:
        app = cast("LlmquizApp", self.app)
        flagged = Content.styled(f"⚑ {app.say(f'flag_{flag}')}", FLAG_STYLES[flag]) if flag else ""
        aged = word("as_of", app.lang, date=card.as_of) if card.as_of else ""
        graded = card.kind is not Kind.NOTE
        return dotted(
            muted(card.level.value) if graded else "",
            frequency_word(card.frequency, app.lang) if graded else "",
            word(card.kind.value, app.lang),
            aged,
            flagged,
            Content.styled(f"! {word('leech', app.lang)}", "$warning") if leech else "",
        )
