"""The report of a run reads the same on a terminal, in a pipe and without colour, in both languages."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from llmquiz.core.card import Lang
from llmquiz.lab.catalog import Lab
from llmquiz.lab.events import ClaimTested, Outcome, PointMeasured, Progressed, Relation, RunEnded
from llmquiz.lab.state import RunState
from llmquiz.lab.view import LineView, LiveView, live_frame, report
from llmquiz.lab.words import comparison, number

Run = Callable[..., RunState]
FindLab = Callable[[str], Lab]


def console(width: int = 80, **options: object) -> Console:
    return Console(file=io.StringIO(), width=width, **options)


def text_of(renderable: object, width: int = 80) -> str:
    out = console(width)
    out.print(renderable)
    return out.file.getvalue()


@pytest.mark.parametrize("width", [30, 80, 200])
def test_a_report_has_everything_and_fits(run: Run, lab: FindLab, width: int) -> None:
    state = run("quick")

    text = text_of(report(lab("quick").manifest, state, Lang.EN, console(width)), width)

    for word in ("Squares", "cpu", "total", "30", "held", "square", "seed 0"):
        assert word in text
    assert max(map(len, text.splitlines())) <= width


def test_a_verdict_is_a_word_in_either_language(run: Run, lab: FindLab) -> None:
    state, manifest = run("broken"), lab("broken").manifest

    english = text_of(report(manifest, state, Lang.EN, console()))
    chinese = text_of(report(manifest, state, Lang.ZH, console()))

    assert "broken" in english
    assert "measured 2, expected 3 ± 0.5" in english
    assert "不成立" in chinese
    assert "实测 2，预期 3 ± 0.5" in chinese


def test_a_claim_that_was_not_tested_is_shown(run: Run, lab: FindLab) -> None:
    text = text_of(report(lab("broken").manifest, run("broken", test=False), Lang.EN, console()))

    assert "not tested" in text
    assert "Two is three." in text


def test_a_failed_run_shows_no_untested_claims(lab: FindLab) -> None:
    state = RunState.of([RunEnded(Outcome.FAILED, 1.0, "lab broken died of SIGSEGV")])

    assert "not tested" not in text_of(report(lab("broken").manifest, state, Lang.EN, console()))


def test_a_frame_shows_progress_and_the_curve_so_far(lab: FindLab) -> None:
    state = RunState.of([Progressed(2, 4, "number", "squaring"), PointMeasured("square", "ours", 1, 1)])

    text = text_of(live_frame(lab("quick").manifest, state, Lang.EN, console()))

    assert "2/4 number" in text
    assert "squaring" in text
    assert "square (1)" in text


def test_a_frame_before_the_first_event(lab: FindLab) -> None:
    assert "starting" in text_of(live_frame(lab("quick").manifest, RunState(), Lang.EN, console()))


def test_a_live_view_leaves_the_terminal_as_it_was(lab: FindLab) -> None:
    screen = console(force_terminal=True)
    state = RunState.of([Progressed(2, 4, "number", "squaring")])

    with LiveView(screen, lab("quick").manifest, state, Lang.EN) as view:
        view.show(RunEnded(Outcome.OK, 0.1))

    drawn = screen.file.getvalue()
    assert "squaring" in drawn
    assert drawn.count("\x1b[?25l") == drawn.count("\x1b[?25h")


def test_lines_say_each_part_once() -> None:
    out = console()
    view = LineView(out)
    for done in range(3):
        view.show(Progressed(done, 3, "step", "walking"))
    view.show(Progressed(0, 0, "", "resting"))

    assert out.file.getvalue() == "walking: 3 step\nresting\n"


def test_markup_in_a_lab_is_text(lab: FindLab) -> None:
    state = RunState.of([Progressed(0, 0, "[red]x[/red]", "[bold]y")])

    assert "[bold]y" in text_of(live_frame(lab("quick").manifest, state, Lang.EN, console()))


@pytest.mark.parametrize(
    ("relation", "text"),
    [
        (Relation.ABOUT, "measured 1.5, expected 2 ± 0.5"),
        (Relation.AT_LEAST, "measured 1.5, expected at least 2 − 0.5"),
        (Relation.AT_MOST, "measured 1.5, expected at most 2 + 0.5"),
    ],
)
def test_a_comparison_in_words(relation: Relation, text: str) -> None:
    assert comparison(ClaimTested("c", 1.5, 2.0, 0.5, True, relation), Lang.EN) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.03125, "0.03125"), (1250, "1.25k"), (-3.2e6, "-3.2M"), (1e15, "1000T")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text
