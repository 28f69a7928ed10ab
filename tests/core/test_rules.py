"""The small rules under the scheduler: steps, fuzz, labels, chance."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmquiz.core import fuzz
from llmquiz.core.intervals import days_label, seconds_label
from llmquiz.core.mix import fraction, mix, shuffled
from llmquiz.core.options import DAY_SECONDS
from llmquiz.core.steps import Steps


@pytest.mark.parametrize(
    ("steps", "left", "again", "hard", "good"),
    [
        ((60, 600), 2, 60, 330, 600),
        ((60, 600), 1, 60, 600, None),
        ((60,), 1, 60, 90, None),
        ((), 0, None, None, None),
        ((60, 600), 9, 60, 330, 600),
        ((60, 600), 0, 60, 600, None),
        ((3 * DAY_SECONDS,), 1, 3 * DAY_SECONDS, 4 * DAY_SECONDS, None),
        ((DAY_SECONDS, 4 * DAY_SECONDS), 2, DAY_SECONDS, 3 * DAY_SECONDS, 4 * DAY_SECONDS),
    ],
)
def test_steps(steps: tuple[int, ...], left: int, again: int | None, hard: int | None, good: int | None) -> None:
    found = Steps(steps)
    assert (found.again, found.hard(left), found.good(left)) == (again, hard, good)


def test_good_counts_the_steps_down() -> None:
    steps = Steps((60, 600, 3600))
    assert [steps.left_after_good(left) for left in (3, 2, 1)] == [2, 1, 0]


# The ranges that Anki's manual and its source's tests give.
@pytest.mark.parametrize(
    ("interval", "minimum", "maximum", "lower", "middle", "upper"),
    [
        (1.0, 1, 1000, 1, 1, 1),
        (2.49, 1, 1000, 2, 2, 2),
        (2.5, 1, 1000, 2, 3, 4),
        (7.0, 1, 1000, 5, 7, 9),
        (17.0, 1, 1000, 14, 17, 20),
        (37.0, 1, 1000, 33, 37, 41),
        (2.0, 3, 1000, 3, 4, 4),
        (2.0, 3, 3, 3, 3, 3),
        (100.0, 101, 1000, 101, 105, 108),
        (100.0, 1, 99, 92, 96, 99),
        (100.0, 97, 103, 97, 100, 103),
        (5.0, 9, 4, 4, 4, 4),
    ],
)
def test_fuzz_ranges(interval: float, minimum: int, maximum: int, lower: int, middle: int, upper: int) -> None:
    assert [fuzz.days(interval, minimum, maximum, place) for place in (0.0, 0.5, 0.99)] == [lower, middle, upper]


@given(
    st.floats(0.01, 40_000),
    st.integers(1, 36_500),
    st.integers(1, 36_500),
    st.floats(0, 1, exclude_max=True) | st.none(),
)
def test_an_interval_stays_within_its_limits(interval: float, minimum: int, maximum: int, place: float | None) -> None:
    assert min(minimum, maximum) <= fuzz.days(interval, minimum, maximum, place) <= maximum


@pytest.mark.parametrize(("interval", "previous", "shortest"), [(2.73, 4, 4), (2.73, 5, 0), (4.59, 4, 5), (2.5, 2, 3)])
def test_a_passed_review_shrinks_only_where_fuzz_is_not_the_cause(
    interval: float, previous: int, shortest: int
) -> None:
    assert fuzz.floor_of_passed(interval, previous, 36500) == shortest


@given(st.integers(1, 100_000), st.floats(0, 1, exclude_max=True))
def test_a_step_grows_by_a_quarter_and_five_minutes_at_most(seconds: int, place: float) -> None:
    assert seconds <= fuzz.step_seconds(seconds, place) <= seconds + min(seconds / 4, 300)
    assert fuzz.step_seconds(seconds, None) == seconds


@pytest.mark.parametrize(
    ("seconds", "label"), [(30, "30s"), (60, "1m"), (330, "6m"), (3600, "1h"), (5400, "1.5h"), (3 * DAY_SECONDS, "3d")]
)
def test_delays_as_read(seconds: int, label: str) -> None:
    assert seconds_label(seconds) == label


@pytest.mark.parametrize(
    ("days", "label"), [(1, "1d"), (30, "30d"), (31, "1mo"), (37, "1.2mo"), (365, "1y"), (770, "2.1y"), (36500, "100y")]
)
def test_intervals_as_read(days: int, label: str) -> None:
    assert days_label(days) == label


def test_chance_repeats_itself_and_is_spread() -> None:
    # First outputs of splitmix64 seeded with 0, from its reference implementation.
    assert [mix(0), mix(0x9E3779B97F4A7C15)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]
    places = [fraction(seed) for seed in range(2000)]
    assert 0 <= min(places) < 0.01
    assert 0.99 < max(places) < 1
    assert 0.48 < sum(places) / len(places) < 0.52


@given(st.integers(0, 30), st.integers())
def test_a_shuffle_keeps_every_number(count: int, seed: int) -> None:
    assert sorted(shuffled(count, seed)) == list(range(count))
    assert shuffled(count, seed) == shuffled(count, seed)
