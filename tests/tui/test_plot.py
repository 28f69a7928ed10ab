"""The braille curve: its size, its ends, its signs without colour, and hostile numbers."""

from __future__ import annotations

import math

import pytest

from llmquiz.tui.plot import Axis, draw


def test_it_fills_exactly_the_rows_and_columns_given() -> None:
    lines = draw({"a": [(1, 1), (2, 4)], "b": [(1, 2), (2, 2)]}, 40, 11, x_label="n")
    assert len(lines) == 11
    assert max(line.cell_length for line in lines) <= 40


def test_a_rising_curve_starts_low_and_ends_high() -> None:
    rows = [line.plain for line in draw({"a": [(0, 0), (10, 10)]}, 30, 8)]
    drawn = [row.partition("│")[2] for row in rows if "│" in row]
    assert drawn[0].strip()
    assert drawn[-1].strip()
    assert drawn[0].rstrip()[-1] != " "
    assert len(drawn[0]) - len(drawn[0].lstrip()) > len(drawn[-1]) - len(drawn[-1].lstrip())


def test_several_curves_end_in_signs_that_the_legend_explains() -> None:
    text = "\n".join(line.plain for line in draw({"cached": [(1, 1), (2, 1)], "not": [(1, 1), (2, 9)]}, 40, 10))
    assert text.count("●") == 2
    assert text.count("○") == 2
    assert "● cached   ○ not" in text


@pytest.mark.parametrize("points", [[], [(1, 1)], [(1, 5), (2, 5)], [(1, math.nan), (2, math.inf)], [(0, 0), (0, 0)]])
def test_degenerate_curves_are_drawn_without_complaint(points: list[tuple[float, float]]) -> None:
    assert len(draw({"a": points}, 30, 8, log=("x", "y"))) == 8


def test_a_log_axis_gives_each_decade_the_same_room() -> None:
    axis = Axis.over([1, 10, 100], 21, log=True)
    assert [axis.place(v) for v in (1, 10, 100)] == [0, 10, 20]


def test_an_axis_with_a_value_that_has_no_logarithm_stays_linear() -> None:
    assert not Axis.over([0, 10], 10, log=True).log


def test_curves_that_end_together_keep_their_signs() -> None:
    text = "\n".join(line.plain for line in draw({"a": [(1, 1), (2, 9)], "b": [(1, 5), (2, 9)]}, 40, 10))
    assert text.count("●") == text.count("○") == 2
