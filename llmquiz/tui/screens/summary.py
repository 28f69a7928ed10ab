"""After the last card: what the session came to, and what comes next."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from llmquiz.core.errors import StoreError
from llmquiz.core.rating import Rating
from llmquiz.study.waiting import sentences
from llmquiz.study.words import duration, rating_word
from llmquiz.tui.bindings import bindings
from llmquiz.tui.screens.base import QuizScreen
from llmquiz.tui.text import bar, muted
from llmquiz.tui.widgets.hints import Hints
from llmquiz.tui.widgets.ratings import STYLES

if TYPE_CHECKING:
    from llmquiz.study.session import Session
    from llmquiz.tui.results import Results

LABEL = 14


class SummaryScreen(QuizScreen):
    """The end of a session. Undo leads back into it."""

    CSS_PATH = "summary.tcss"
    BINDINGS: ClassVar[list[BindingType]] = bindings("summary")

    def __init__(self, session: Session, results: Results) -> None:
        super().__init__()
        self.session = session
        self.results = results

    def compose_body(self) -> ComposeResult:
        with VerticalScroll(id="summary", can_focus=False):
            yield Static(id="summary-title")
            yield Static(id="summary-facts")
            yield Static(id="summary-ratings")
            yield Static(id="summary-next")
        yield Hints(id="hints")

    def on_mount(self) -> None:
        self.relabel()

    def relabel(self) -> None:
        title = "session_done" if self.results.answers else "nothing_now"
        self.query_one("#summary-title", Static).update(Content.styled(self.say(title), "bold"))
        facts = self.query_one("#summary-facts", Static)
        facts.display = bool(self.results.answers)
        facts.update(self._facts())
        ratings = self.query_one("#summary-ratings", Static)
        ratings.display = bool(self.results.answers)
        ratings.update(self._ratings())
        self.query_one("#summary-next", Static).update(self._next())
        self.query_one(Hints).offer(("summary.home", "summary.undo", "summary.stats", "app.leave", "app.help"))

    def action_home(self) -> None:
        """To the decks."""
        from llmquiz.tui.screens.home import HomeScreen

        if self.quiz.at_first:
            self.quiz.switch_screen(HomeScreen())
        else:
            self.quiz.pop_screen()

    def action_undo(self) -> None:
        """Take back the last answer and ask its card again."""
        from llmquiz.tui.screens.study import StudyScreen

        try:
            undone = self.session.undo()
        except StoreError as error:
            self.notify(str(error), severity="error", timeout=10, markup=False)
            return
        if undone is None:
            self.notify(self.word("nothing_to_undo"), timeout=3)
            return
        self.results.take_back(undone)
        self.quiz.switch_screen(StudyScreen(self.session, self.results))

    def _facts(self) -> Content:
        results = self.results
        count = len(results.answers)
        rows = [(self.say("stat_answered"), str(count))]
        if results.remembered is not None:
            rows.append((self.say("stat_remembered"), f"{results.remembered:.0%}"))
            rows.append((self.say("stat_time"), duration(results.seconds, self.lang)))
            rows.append((self.say("stat_pace"), duration(results.seconds / count, self.lang)))
        return Content("\n").join(_labelled(label, Content.styled(value, "bold")) for label, value in rows)

    def _ratings(self) -> Content:
        total = len(self.results.answers)
        rows = []
        for rating in Rating:
            given = self.results.count(rating)
            line = bar(given / total if total else 0, 20, style=STYLES[rating]) + muted(f"{given:>5}")
            rows.append(_labelled(rating_word(rating, self.lang), line))
        return Content("\n").join(rows)

    def _next(self) -> Content:
        services = self.quiz.services
        first, *lines = sentences(self.session, services.clock(), self.lang)
        if waiting := services.waiting():
            lines.append(self.say("left_over", n=waiting))
        if tomorrow := services.due_tomorrow():
            lines.append(self.say("tomorrow_due", n=tomorrow))
        return muted("\n".join(lines or [first]))


def _labelled(label: str, value: Content) -> Content:
    text = muted(label)
    return text.pad_right(max(1, LABEL - text.cell_length)) + value
