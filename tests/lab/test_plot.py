"""Curves as text: they fit, they are ASCII where it matters, and they never fail a run."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmquiz.lab.plot import MARKERS, draw

SQUARES = [(float(x), float(x * x)) for x in range(1, 9)]


def test_each_curve_has_its_own_marker_and_name() -> None:
    text = draw({"ours": SQUARES, "theirs": [(x, 2 * y) for x, y in SQUARES]}, width=60, title="latency", x="tokens")

    assert "latency" in text
    assert "tokens" in text
    assert f"{MARKERS[0] * 2} ours" in text
    assert f"{MARKERS[1] * 2} theirs" in text


def test_without_colour_there_is_no_escape() -> None:
    assert "\x1b" not in draw({"": SQUARES}, width=60)
    assert "\x1b" in draw({"": SQUARES}, width=60, color=True)


def test_wide_characters_are_left_out() -> None:
    text = draw({"缓存 cache": SQUARES}, width=60, title="延迟 latency", x="长度")

    assert "cache" in text
    assert not set("缓存延迟长度") & set(text)


def test_logarithmic_axes_have_readable_ticks() -> None:
    text = draw({"": [(10.0**p, 10.0 ** (2 * p)) for p in range(1, 6)]}, width=70, log=("x", "y"))

    assert "100k" in text
    assert "10G" in text


@pytest.mark.parametrize("points", [[], [(0.0, 0.0)], [(1.0, 5.0)], [(0.0, -1.0), (1.0, 1.0)]])
def test_odd_points_are_drawn_or_left_out(points: list[tuple[float, float]]) -> None:
    assert bool(draw({"": points}, width=60, log=("x", "y"))) == bool(points)


def test_a_narrow_terminal_gets_no_plot() -> None:
    assert draw({"": SQUARES}, width=20) == ""


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)), min_size=1, max_size=20),
    st.integers(24, 120),
    st.sampled_from([(), ("x",), ("x", "y")]),
)
@example([(0.0, 2.2e-311)], 24, ())  # smaller than any number that plotext can round
@example([(0.0, 1.1e-290), (3e-300, 0.0)], 24, ("x", "y"))
def test_a_plot_fits_its_width(points: list[tuple[float, float]], width: int, log: tuple[str, ...]) -> None:
    text = draw({"curve": points}, width=width, x="x", log=log)

    assert text
    assert max(map(len, text.splitlines())) <= width
