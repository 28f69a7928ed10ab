"""The scaling-law lab: the provable law is proved by its own numbers, and the fit's are those of the table."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from .running import Results, run_here  # noqa: E402

pytestmark = pytest.mark.labs


@pytest.fixture(scope="module")
def results() -> Results:
    return run_here("scaling-law", size="tiny")


def test_a_trained_low_rank_model_reaches_the_tail_of_the_spectrum(results: Results) -> None:
    rows = results.tables[0].rows

    assert [row[:2] for row in rows] == [(rank, 2 * 64 * rank) for rank in (1, 2, 4, 8, 16)]
    for _, _, excess, tail in rows:
        assert excess == pytest.approx(tail, rel=0.15)


def test_training_costs_six_flops_per_token_and_parameter(results: Results) -> None:
    assert not {"six-n-d"} & results.broken
    assert results.metrics["flops_per_parameter"] == results.tables[1].rows[-1][4]


def test_the_error_is_that_of_the_largest_model_which_the_fit_has_not_seen(results: Results) -> None:
    *_, (_, parameters, loss, fitted, _) = results.tables[1].rows

    assert results.metrics["prediction_error"] == pytest.approx(100 * (fitted / loss - 1))
    measured = [(point.x, point.y) for point in results.points if point.series == "measured"]
    assert measured[-1] == (parameters, loss)
    assert len(measured) == 5


def test_a_higher_floor_is_paid_for_by_a_steeper_exponent(results: Results) -> None:
    lowest, _, highest = results.tables[2].rows

    assert lowest[1] <= highest[1] < results.metrics["loss"]
    assert lowest[2] <= highest[2]
    assert results.metrics["floor_width"] == pytest.approx(100 * (highest[1] - lowest[1]) / results.metrics["loss"])
