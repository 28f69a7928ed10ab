"""How well one remembers: the sections of `llmquiz.study.statspage`, side by side where there is room."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from llmquiz.tui.screens.base import SCROLLING, QuizScreen
from llmquiz.tui.text import muted
from llmquiz.tui.widgets.hints import Hints

if TYPE_CHECKING:
    from llmquiz.study.statistics import Statistics

SECTION = 60  # columns that a section is drawn for when two stand side by side


class StatsScreen(QuizScreen):
    """The statistics, counted once when the screen opens."""

    CSS_PATH = "stats.tcss"
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = list(SCROLLING)

    def compose_body(self) -> ComposeResult:
        yield Static(id="stats-title")
        yield VerticalScroll(Static(id="stats-loading"), id="stats", can_focus=False)
        yield Hints(id="hints")

    def on_mount(self) -> None:
        self._stats: Statistics | None = None
        self._drawn = 0
        self.query_one("#stats-loading", Static).update(muted(self.say("loading")))
        self.call_after_refresh(self.relabel)

    def on_resize(self) -> None:
        if self._stats is not None and self._drawn != self.size.width:
            self.call_after_refresh(self.relabel)

    def relabel(self) -> None:
        self.run_worker(self._show(), exclusive=True)

    async def _show(self) -> None:
        from llmquiz.study.statistics import collect
        from llmquiz.study.statspage import sections

        services = self.quiz.services
        if self._stats is None:
            self._stats = collect(services.store, services.clock(), services.calendar, services.options)
        self._drawn = self.size.width
        self.query_one("#stats-title", Static).update(Content.styled(self.word("statistics"), "bold"))
        self.query_one(Hints).offer(("scroll.page_down", "app.language", "app.back"))
        body = self.query_one("#stats", VerticalScroll)
        await body.remove_children()
        width = body.container_size.width - 8
        columns = 2 if width >= 2 * SECTION else 1
        body.set_class(columns == 2, "-columns")
        await body.mount_all(
            Static(section, classes="stats-section") for section in sections(self._stats, self.lang, width // columns)
        )

    def action_scroll(self, by: int) -> None:
        self.query_one("#stats").scroll_relative(y=by, animate=False)

    def action_page(self, by: int) -> None:
        body = self.query_one("#stats")
        body.scroll_relative(y=by * max(1, body.size.height - 2), animate=False)

    def action_edge(self, to: int) -> None:
        body = self.query_one("#stats")
        body.scroll_to(y=0 if to < 0 else body.max_scroll_y, animate=False)
