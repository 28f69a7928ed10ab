"""How the screens look, kept as SVG: three sizes, dark and light, English and Chinese, at a time that stands still."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from llmquiz.core.errors import StoreError
from llmquiz.lab.events import RunEnded
from llmquiz.tui.app import LlmquizApp
from llmquiz.tui.screens.dialog import ErrorModal
from llmquiz.tui.screens.lab import LabScreen
from llmquiz.tui.widgets.lab_panel import LabPanel

from .conftest import Desk

SMALL, USUAL, LARGE = (40, 12), (80, 24), (120, 40)
DARK, LIGHT = "llmquiz-dark", "llmquiz-light"
Compare = Callable[..., bool]
Play = Callable[[Pilot[None]], Awaitable[None]]


def keys(*names: str) -> Play:
    """Presses keys once the screen is there, and stops the cursor from blinking."""

    async def play(pilot: Pilot[None]) -> None:
        await pilot.pause()
        for field in pilot.app.screen.query(Input):
            field.cursor_blink = False
        await pilot.press(*names)
        for field in pilot.app.screen.query(Input):
            field.cursor_blink = False
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()

    return play


def lab(*names: str) -> Play:
    """Presses keys that run a lab to its end, and gives the run a duration that is always the same."""

    async def play(pilot: Pilot[None]) -> None:
        await keys(*names)(pilot)
        panel = pilot.app.screen.query_one(LabPanel)
        assert panel.state.ended is not None
        panel.state.ended = RunEnded(panel.state.ended.outcome, 1.5, panel.state.ended.error)
        panel.draw()
        await pilot.pause()

    return play


@pytest.mark.parametrize(
    ("size", "theme", "language"),
    [(USUAL, DARK, "en"), (USUAL, LIGHT, "zh"), (SMALL, DARK, "en"), (LARGE, LIGHT, "en")],
    ids=["usual", "zh", "small", "large"],
)
def test_home(snap_compare: Compare, desk: Desk, size: tuple[int, int], theme: str, language: str) -> None:
    assert snap_compare(desk.home(theme=theme, language=language), terminal_size=size, run_before=keys())


@pytest.mark.parametrize(
    ("card", "size", "theme", "language", "played"),
    [
        pytest.param("sdpa-scale", USUAL, DARK, "en", (), id="question"),
        pytest.param("sdpa-scale", USUAL, DARK, "en", ("space", "x", "x", "x"), id="answer"),
        pytest.param("sdpa-scale", USUAL, LIGHT, "zh", ("space",), id="answer-zh"),
        pytest.param("sdpa-scale", LARGE, DARK, "both", ("space",), id="answer-both"),
        pytest.param("sdpa-scale", LARGE, LIGHT, "en", ("space",), id="answer-large"),
        pytest.param("sdpa-scale", SMALL, DARK, "zh", ("space",), id="answer-small"),
        pytest.param("sdpa-scale", USUAL, "ansi-dark", "en", ("space", "x"), id="answer-ansi"),
        pytest.param("kv-bytes", USUAL, LIGHT, "en", (), id="choice"),
        pytest.param("kv-bytes", USUAL, DARK, "en", ("c",), id="choice-answered"),
        pytest.param("kv-bytes", USUAL, LIGHT, "zh", ("b",), id="choice-zh"),
        pytest.param("kv-bytes", SMALL, LIGHT, "en", (), id="choice-small"),
        pytest.param("softmax-is", USUAL, DARK, "en", ("f",), id="cloze"),
        pytest.param("softmax-is", USUAL, LIGHT, "zh", ("space",), id="cloze-shown"),
        pytest.param("tiny-speedup", USUAL, DARK, "en", ("1", "2"), id="predict"),
        pytest.param("tiny-speedup", SMALL, DARK, "zh", ("1", "2", "enter"), id="predict-small"),
        pytest.param("kv-holds", USUAL, DARK, "en", ("space", "4"), id="summary"),
        pytest.param("kv-holds", SMALL, LIGHT, "zh", ("space", "4"), id="summary-small"),
        pytest.param("kv-holds", USUAL, LIGHT, "en", ("question_mark",), id="help"),
        pytest.param("kv-holds", SMALL, DARK, "zh", ("question_mark",), id="help-small"),
        pytest.param("kv-holds", (29, 7), DARK, "en", (), id="too-small"),
    ],
)
def test_study(
    snap_compare: Compare,
    desk: Desk,
    card: str,
    size: tuple[int, int],
    theme: str,
    language: str,
    played: tuple[str, ...],
) -> None:
    app = desk.study(card, theme=theme, language=language)
    assert snap_compare(app, terminal_size=size, run_before=keys(*played))


@pytest.mark.parametrize(
    ("size", "theme", "language"),
    [(LARGE, DARK, "en"), (USUAL, LIGHT, "zh"), (SMALL, DARK, "en")],
    ids=["large", "zh", "small"],
)
def test_lab(snap_compare: Compare, desk: Desk, size: tuple[int, int], theme: str, language: str) -> None:
    app = desk.study("tiny-speedup", theme=theme, language=language)
    assert snap_compare(app, terminal_size=size, run_before=lab("1", "2", "enter", "l"))


def test_lab_alone(snap_compare: Compare, desk: Desk) -> None:
    app = desk.home()

    async def play(pilot: Pilot[None]) -> None:
        await app.push_screen(LabScreen("tiny"))
        await lab()(pilot)

    assert snap_compare(app, terminal_size=USUAL, run_before=play)


@pytest.mark.parametrize(
    ("size", "theme", "language"),
    [(LARGE, DARK, "en"), (USUAL, LIGHT, "zh")],
    ids=["large", "zh"],
)
def test_search(snap_compare: Compare, desk: Desk, size: tuple[int, int], theme: str, language: str) -> None:
    app = desk.home(theme=theme, language=language)
    assert snap_compare(app, terminal_size=size, run_before=keys("slash", *"softmax"))


def test_card(snap_compare: Compare, desk: Desk) -> None:
    assert snap_compare(desk.home(), terminal_size=USUAL, run_before=keys("slash", *"softmax", "enter"))


def test_palette(snap_compare: Compare, desk: Desk) -> None:
    assert snap_compare(desk.home(), terminal_size=USUAL, run_before=keys("colon"))


@pytest.mark.parametrize(("size", "theme"), [(LARGE, DARK), (USUAL, LIGHT)], ids=["large", "light"])
def test_stats(snap_compare: Compare, desk: Desk, size: tuple[int, int], theme: str) -> None:
    """After six answers over three days."""
    for day in range(3):
        session = desk.services().session()
        for rating in (3, 1 + day):
            session.next()
            desk.clock.pass_seconds(20)
            session.rate(type(next(iter(session.next().outcomes)))(rating), duration_ms=9000)
        desk.clock.pass_seconds(86_400)
    assert snap_compare(desk.home(theme=theme), terminal_size=size, run_before=keys("s"))


def test_error(snap_compare: Compare, desk: Desk) -> None:
    app = desk.study("kv-holds")

    async def play(pilot: Pilot[None]) -> None:
        await keys("space")(pilot)
        error = StoreError("llmquiz.db: disk is full, the last change was not saved; free some space, then try again")
        hint = app.say("not_written_hint")
        await app.push_screen(ErrorModal(app.say("not_written"), str(error), hint))
        await pilot.pause()

    assert isinstance(app, LlmquizApp)
    assert snap_compare(app, terminal_size=USUAL, run_before=play)
