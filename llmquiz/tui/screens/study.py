"""The study screen: one card after the other, asked, revealed and rated, with its lab beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.content import Content

from llmquiz.core.rating import Rating
from llmquiz.tui import prose
from llmquiz.tui.bindings import bindings
from llmquiz.tui.results import Results
from llmquiz.tui.screens.base import SCROLLING
from llmquiz.tui.screens.desk import DeskScreen
from llmquiz.tui.screens.study_hints import hints_for
from llmquiz.tui.turn import Turn
from llmquiz.tui.widgets.card import CardPane
from llmquiz.tui.widgets.guess import GuessRow, NumberInput
from llmquiz.tui.widgets.header import StudyHeader
from llmquiz.tui.widgets.hints import Hints
from llmquiz.tui.widgets.key_points import KeyPoints
from llmquiz.tui.widgets.options import Options
from llmquiz.tui.widgets.ratings import Ratings

if TYPE_CHECKING:
    from llmquiz.study.session import CardRated, Prompt, Session

READ_AHEAD_AFTER = 0.15  # seconds, when the card has long been painted


class StudyScreen(DeskScreen):
    """Runs a session until nothing is left, then gives way to its summary."""

    CSS_PATH = "study.tcss"
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("study", "choice", "points"), *SCROLLING]

    def __init__(self, session: Session, results: Results | None = None) -> None:
        super().__init__(session, results or Results())

    def compose_body(self) -> ComposeResult:
        yield StudyHeader()
        with Container(id="desk"):
            yield CardPane(id="pane")
        yield Ratings(id="ratings")
        yield Hints(id="hints")

    def on_mount(self) -> None:
        self.next_card()
        self.set_interval(1, self._tick)

    def relabel(self) -> None:
        self.draw()
        if self.panel is not None:
            self.panel.draw()

    # the turn

    def next_card(self) -> None:
        """Ask the next card, or end the session."""
        self.query_one("#pane", CardPane).scroll_home(animate=False)
        prompt = self.session.next()
        if prompt is None:
            self._finish()
        else:
            self._ask(prompt)

    def _ask(self, prompt: Prompt) -> None:
        self.turn = Turn(prompt, self.quiz.services.clock())
        self.set_focus(None)
        self.draw()
        if self.turn.asks_guess:
            self.query_one(GuessRow).reset(self.quiz.services.unit(self.turn.card))
            self.query_one(NumberInput).focus()
        self.set_timer(READ_AHEAD_AFTER, self._read_ahead)
        if prompt.card.lab is not None:
            self.call_after_refresh(self.quiz.warm_labs)

    def _read_ahead(self) -> None:
        self.session.prepare()
        prose.warm()

    def draw(self) -> None:
        """Draw the turn as far as it has come."""
        if self.turn is None:
            return
        turn, prompt = self.turn, self.turn.prompt
        self.query_one("#pane", CardPane).show(turn, self.face(), flag=prompt.flag)
        self._draw_bars()
        self._tick()

    def _draw_bars(self) -> None:
        assert self.turn is not None
        turn, prompt = self.turn, self.turn.prompt
        deck = self.quiz.services.deck_title(prompt.card.deck, self.lang)
        self.query_one(StudyHeader).show(
            deck,
            "" if prompt.card.topic == prompt.card.deck else prompt.card.topic,
            self.session.counts,
            prompt.schedule.state,
            self.session.answered,
        )
        ratings = self.query_one(Ratings)
        if turn.revealed:
            ratings.offer({r: outcome.label for r, outcome in prompt.outcomes.items()}, turn.suggested or Rating.GOOD)
        else:
            ratings.ask(self._how_to_answer())
        self.query_one(Hints).offer(*hints_for(turn, self.quiz))

    def _how_to_answer(self) -> Content:
        assert self.turn is not None
        key, word = self.quiz.key_sign("study.reveal"), self.say("show_answer")
        if self.turn.asks_guess:
            key = "enter"
        shown = Content.assemble((key, "bold $foreground"), f"  {word}")
        if not self.turn.options:
            return shown
        letters = "-".join(self.quiz.key_sign(f"choice.{letter}") for letter in "ad")
        return Content.assemble((letters, "bold $foreground"), f"  {self.say('choose')}     ") + shown

    def _tick(self) -> None:
        if self.turn is not None:
            self.query_one(StudyHeader).tick(self.turn.milliseconds(self.quiz.services.clock()) // 1000)

    # answering

    def action_reveal(self) -> None:
        """Show the answer; once it is shown, take the suggested rating."""
        if self.turn is None:
            return
        if self.turn.revealed:
            self.rate(self.turn.suggested or Rating.GOOD)
        else:
            self.reveal()

    def reveal(self) -> None:
        """Show the answer."""
        assert self.turn is not None
        self.turn.revealed = True
        self.set_focus(None)
        self.draw()

    def action_number(self, number: int) -> None:
        """Rate, or pick an option before the reveal."""
        if self.turn is None:
            return
        if self.turn.revealed:
            self.rate(Rating(number))
        else:
            self.action_pick(number)

    def action_pick(self, number: int) -> None:
        """Pick an option and show which is right."""
        if self.turn is not None and number <= self.turn.options:
            self.turn.picked = number
            self.reveal()

    @on(Options.Picked)
    def _option_clicked(self, event: Options.Picked) -> None:
        self.action_pick(event.number)

    @on(GuessRow.Guessed)
    def _guessed(self, event: GuessRow.Guessed) -> None:
        if self.turn is not None:
            self.turn.guess = event.guess
            self.reveal()

    @on(Ratings.Chosen)
    def _rating_clicked(self, event: Ratings.Chosen) -> None:
        self.rate(event.rating)

    @on(Ratings.Asked)
    def _prompt_clicked(self) -> None:
        self.action_reveal()

    @on(KeyPoints.Toggled)
    def _point_clicked(self, event: KeyPoints.Toggled) -> None:
        self._toggle(event.point)

    def action_tick(self) -> None:
        """Tick the key point under the cursor and move to the next."""
        points = self.query_one(KeyPoints)
        if self.turn is not None and self.turn.points:
            self._toggle(points.cursor)
            points.move(1)
            self._follow_cursor()

    def action_point(self, by: int) -> None:
        """Move the cursor over the key points."""
        self.query_one(KeyPoints).move(by)
        self._follow_cursor()

    def _toggle(self, point: int) -> None:
        if self.turn is not None and point < self.turn.points:
            self.turn.ticked ^= {point}
            self.query_one(KeyPoints).tick(self.turn.ticked)
            self._draw_bars()

    def _follow_cursor(self) -> None:
        points = self.query_one(KeyPoints)
        if points.display:
            self.query_one("#pane", CardPane).show_region(points.cursor_region())

    def rate(self, rating: Rating) -> None:
        """Rate the card; if that cannot be written, say so and keep the card."""
        if self.turn is None:
            return
        duration = self.turn.milliseconds(self.quiz.services.clock())
        rated = self.written(lambda: self.session.rate(rating, duration_ms=duration))
        if rated is not None:
            self.results.add(rating, duration)
            self._after_rating(rated)

    def _after_rating(self, rated: CardRated) -> None:
        if rated.leech:
            lapses = rated.outcome.schedule.lapses
            self.notify(self.word("rated_leech", n=lapses), severity="warning", timeout=8)
        self.leave_card()

    def leave_card(self) -> None:
        """Close the card's lab and ask the next card."""
        self.turn = None
        self.close_lab()
        self.next_card()

    def action_scroll(self, by: int) -> None:
        self.query_one("#pane", CardPane).scroll_relative(y=by, animate=False)

    def action_page(self, by: int) -> None:
        if self.panel is not None:
            self.panel.page(by)
            return
        pane = self.query_one("#pane", CardPane)
        pane.scroll_relative(y=by * max(1, pane.size.height - 2), animate=False)

    def action_edge(self, to: int) -> None:
        pane = self.query_one("#pane", CardPane)
        pane.scroll_to(y=0 if to < 0 else pane.max_scroll_y, animate=False)

    def _finish(self) -> None:
        from llmquiz.tui.screens.summary import SummaryScreen

        self.turn = None
        self.quiz.switch_screen(SummaryScreen(self.session, self.results))
