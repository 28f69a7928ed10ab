"""A lab beside its card, or alone: it starts when the panel opens, and never holds up the screen.

Closing the panel, leaving the card or leaving the app ends the lab's processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual import work
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content

from llmquiz.core.card import LabLink
from llmquiz.core.errors import LlmquizError, StoreError
from llmquiz.lab.events import Outcome, RunEnded
from llmquiz.lab.manifest import Manifest
from llmquiz.lab.state import RunState
from llmquiz.lab.words import in_lang
from llmquiz.tui.experiment import Experiment
from llmquiz.tui.text import apart, bar, dotted, muted
from llmquiz.tui.widgets.lab_messages import LabClosed, LabEnded
from llmquiz.tui.widgets.lab_report import LabReport
from llmquiz.tui.widgets.line import Line

if TYPE_CHECKING:
    from llmquiz.tui.app import LlmquizApp

VERDICTS = {
    Outcome.OK: ("✓", "$success"),
    Outcome.BROKEN: ("✗", "$warning"),
    Outcome.CANCELLED: ("■", "$muted"),
}
REDRAW_SECONDS = 0.1  # a lab may report thousands of points; the screen follows ten times a second


class LabPanel(Vertical):
    """Runs the lab of `link` and draws it; `card` is the id of the card that it was opened from."""

    def __init__(self, link: LabLink, card: str | None = None, guess: float | None = None) -> None:
        super().__init__(id="lab")
        self.link = link
        self.card = card
        self.guess = guess
        self.state = RunState()
        self._manifest: Manifest | None = None
        self._experiment: Experiment | None = None
        self._stale = True

    def compose(self) -> ComposeResult:
        yield Line(id="lab-title")
        yield Line(id="lab-progress")
        with VerticalScroll(id="lab-body", can_focus=False):
            yield LabReport()

    def on_mount(self) -> None:
        self.set_interval(REDRAW_SECONDS, self._draw_if_stale)
        self._run()
        self.draw()

    def stop_or_close(self) -> None:
        """Stop the lab while it runs; close the panel after that."""
        if self.state.running and self._experiment is not None:
            self._stop(self._experiment)
        else:
            self.close()

    def close(self) -> None:
        """Close the panel; its lab is stopped."""
        self.post_message(LabClosed())

    def page(self, by: int) -> None:
        """Move the report by pages."""
        body = self.query_one("#lab-body", VerticalScroll)
        body.scroll_relative(y=by * max(1, body.size.height - 1), animate=False)

    def scroll_lines(self, by: int) -> None:
        """Move the report by rows."""
        self.query_one("#lab-body", VerticalScroll).scroll_relative(y=by, animate=False)

    def draw(self) -> None:
        """Draw what is known of the run."""
        self._stale = False
        app = cast("LlmquizApp", self.app)
        title = Content.styled(in_lang(self._manifest.title, app.lang) if self._manifest else self.link.lab, "bold")
        sign = app.key_sign("app.back")
        way_out = muted(app.say("lab_stop" if self.state.running else "lab_close", sign=sign))
        self.query_one("#lab-title", Line).show(lambda width: apart(title, way_out, width))
        self.query_one("#lab-progress", Line).show(self._progress)
        self.query_one(LabReport).show(self._manifest, self.state)

    @work(exclusive=True, group="lab")
    async def _run(self) -> None:
        app = cast("LlmquizApp", self.app)
        try:
            self._experiment = Experiment(app.services, self.link, self.card, app.lab_server)
            self._manifest = self._experiment.lab.manifest
            self.state = self._experiment.state
        except LlmquizError as error:
            self.state.apply(RunEnded(Outcome.FAILED, 0.0, str(error)))
            self.draw()
            return
        try:
            await self._experiment.follow(self._note)
        finally:
            await self._experiment.stop()
        self._keep(self._experiment)

    @work(group="lab-stop")
    async def _stop(self, experiment: Experiment) -> None:
        await experiment.stop()

    def _keep(self, experiment: Experiment) -> None:
        judged = None
        try:
            judged = experiment.keep(self.guess)
        except StoreError as error:
            self.notify(str(error), severity="error", timeout=10, markup=False)
        self.draw()
        self.post_message(LabEnded(self.card, experiment.state.metrics.get(self.link.metric or ""), judged))

    def _note(self) -> None:
        self._stale = True

    def _draw_if_stale(self) -> None:
        if self._stale:
            self.draw()

    def _verdict(self, ended: RunEnded) -> Content:
        sign, style = VERDICTS.get(ended.outcome, ("✗", "$error"))
        key = "lab_done" if ended.outcome is Outcome.OK and not self.state.claims else f"lab_{ended.outcome}"
        return Content.styled(f"{sign} {cast('LlmquizApp', self.app).say(key)}", f"bold {style}")

    def _progress(self, width: int) -> Content:
        app, state = cast("LlmquizApp", self.app), self.state
        if state.started is None and state.running:
            return muted(app.say("lab_waiting"))
        device = state.started.device if state.started else ""
        if state.ended is not None:
            return dotted(self._verdict(state.ended), app.say("seconds", n=f"{state.ended.seconds:.1f}"), device)
        done = state.progress
        count = f"{done.done}/{done.total} {done.unit}".strip() if done and done.total else ""
        facts = dotted(count, done.label if done else "", device)
        room = width - facts.cell_length - 2
        return bar(state.fraction or 0, room) + Content("  ") + facts if room >= 8 else facts
