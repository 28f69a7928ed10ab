"""A lab beside its card: real child processes, no torch. The card stays ratable, whatever the lab does."""

from __future__ import annotations

import os

from textual.pilot import Pilot

from llmquiz.core.rating import Rating
from llmquiz.tui.widgets.lab_panel import LabPanel

from .conftest import Desk
from .seen import press, screen_text, study, told


def panel(pilot: Pilot[None]) -> LabPanel:
    return pilot.app.screen.query_one(LabPanel)


async def finished(pilot: Pilot[None]) -> None:
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


async def test_a_lab_draws_its_curve_metrics_and_claims_and_is_kept(desk: Desk) -> None:
    async with desk.study("kv-holds").run_test(size=(120, 40)) as pilot:
        await press(pilot, "space", "L")
        await finished(pilot)
        text = screen_text(pilot.app)
        assert "time of a step" in text
        assert "● halving   ○ constant" in text
        assert "✓ held" in text
        assert "✗ broken" in text
        assert "A claim did not hold" in text
        (run,) = desk.store.runs()
        assert (run.lab, run.card, run.outcome) == ("tiny", "kv-holds", "broken")
        assert run.metrics["speedup"] == 16.0
        await press(pilot, "3")
    assert desk.reviews() == [("kv-holds", Rating.GOOD)]


async def test_the_measured_number_judges_the_guess(desk: Desk) -> None:
    for guess, rating in (("16", Rating.EASY), ("10", Rating.GOOD), ("5", Rating.HARD), ("1", Rating.AGAIN)):
        async with desk.study("tiny-speedup").run_test(size=(120, 40)) as pilot:
            await press(pilot, *guess, "enter", "L")
            await finished(pilot)
            turn = study(pilot.app).turn
            assert turn.measured == 16.0
            assert turn.suggested is rating
            assert "measured" in screen_text(pilot.app)
    assert [prediction.guess for prediction in desk.store.predictions()] == [1.0, 5.0, 10.0, 16.0]


async def test_the_guess_comes_before_the_lab(desk: Desk) -> None:
    async with desk.study("tiny-speedup").run_test(notifications=True) as pilot:
        await press(pilot, "L")
        assert not pilot.app.screen.query(LabPanel)
        await told(pilot, "Make your guess first")


async def test_escape_stops_a_lab_then_closes_its_panel(desk: Desk) -> None:
    async with desk.study("patience").run_test() as pilot:
        await press(pilot, "space", "L")
        while not panel(pilot).state.notes:
            await pilot.pause(0.02)
        await press(pilot, "escape")
        await finished(pilot)
        assert "Stopped" in screen_text(pilot.app)
        await press(pilot, "escape")
        assert not pilot.app.screen.query(LabPanel)
        (run,) = desk.store.runs()
        assert run.outcome == "cancelled"


async def test_rating_while_a_lab_runs_ends_its_process(desk: Desk) -> None:
    others = children_of(os.getpid())  # the warm process of another test
    async with desk.study("patience").run_test() as pilot:
        await press(pilot, "space", "L")
        while not panel(pilot).state.notes:
            await pilot.pause(0.02)
        children = children_of(os.getpid()) - others
        assert children
        await press(pilot, "4")
        await finished(pilot)
    assert desk.reviews() == [("patience", Rating.EASY)]
    assert not children & children_of(os.getpid())


async def test_a_crash_is_one_line_and_the_card_goes_on(desk: Desk) -> None:
    async with desk.study("batch-limit").run_test(size=(120, 40)) as pilot:
        await press(pilot, "space", "L")
        await finished(pilot)
        assert "The lab failed" in screen_text(pilot.app)
        assert "the cache is gone" in screen_text(pilot.app)
        await press(pilot, "2")
    assert desk.reviews() == [("batch-limit", Rating.HARD)]


async def test_an_unknown_lab_is_named(desk: Desk) -> None:
    app = desk.study("kv-holds")
    app.services.catalog = type(app.services.catalog)([])
    async with app.run_test(size=(120, 40)) as pilot:
        await press(pilot, "space", "L")
        await finished(pilot)
        await told(pilot, "no lab 'tiny'")


async def test_a_card_without_a_lab_says_so(desk: Desk) -> None:
    async with desk.study("sdpa-scale").run_test(notifications=True) as pilot:
        await press(pilot, "L")
        await told(pilot, "no lab")


async def test_the_panel_stands_beside_the_card_or_below_it(desk: Desk) -> None:
    async with desk.study("kv-holds").run_test(size=(120, 40)) as pilot:
        await press(pilot, "space", "L")
        await finished(pilot)
        pane = pilot.app.screen.query_one("#pane")
        assert panel(pilot).region.x >= pane.region.right
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert panel(pilot).region.y >= pane.region.bottom
        await pilot.resize_terminal(60, 16)
        await pilot.pause()
        assert not pane.display
        assert "Again" in screen_text(pilot.app)


def children_of(pid: int) -> set[int]:
    """Process ids of the supervisors and labs that this process has started and that still run."""
    import psutil

    return {child.pid for child in psutil.Process(pid).children(recursive=True) if child.status() != "zombie"}
