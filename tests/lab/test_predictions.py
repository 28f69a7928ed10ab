"""A guess is judged by the factor that it misses by."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmquiz.core.errors import LabError
from llmquiz.core.rating import Rating
from llmquiz.lab.predictions import score

positive = st.floats(1e-6, 1e6)


@pytest.mark.parametrize(
    ("guess", "measured", "rating"),
    [
        (10, 10, Rating.EASY),
        (14, 10, Rating.EASY),
        (15, 10, Rating.GOOD),
        (20, 10, Rating.GOOD),
        (5, 10, Rating.GOOD),
        (21, 10, Rating.HARD),
        (2.5, 10, Rating.HARD),
        (41, 10, Rating.AGAIN),
        (-10, 10, Rating.AGAIN),
        (-10, -14, Rating.EASY),
        (0, 10, Rating.AGAIN),
        (0, 0, Rating.EASY),
        (1, 0, Rating.AGAIN),
        (None, 10, Rating.AGAIN),
        (math.nan, 10, Rating.AGAIN),
        (math.inf, 10, Rating.AGAIN),
        (1e308, 1e-308, Rating.AGAIN),
    ],
)
def test_ratings_for_a_factor_of_two(guess: float | None, measured: float, rating: Rating) -> None:
    assert score(guess, measured, 2.0).rating is rating


@given(positive, positive, st.floats(1.01, 10))
def test_too_much_and_too_little_count_alike(guess: float, measured: float, within: float) -> None:
    over, under = score(guess, measured, within), score(measured, guess, within)

    assert over.factor == pytest.approx(under.factor)
    assert over.factor >= 1


@given(positive, st.floats(1, 100), st.floats(1, 100))
def test_a_better_guess_is_never_rated_worse(measured: float, near: float, far: float) -> None:
    near, far = min(near, far), max(near, far)

    assert score(measured * near, measured, 2.0).rating >= score(measured * far, measured, 2.0).rating


@pytest.mark.parametrize("measured", [None, math.nan, math.inf])
def test_nothing_measured_cannot_be_scored(measured: float | None) -> None:
    with pytest.raises(LabError, match="run it again"):
        score(1.0, measured, 2.0)
