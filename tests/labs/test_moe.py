"""The mixture lab: counts are exact at any size, and without balance the router collapses."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from .running import run_here  # noqa: E402

pytestmark = [pytest.mark.labs, pytest.mark.filterwarnings("ignore")]  # the lab imports transformers

TINY = {"size": "tiny", "steps": 40}
TRAINED = {"collapses", "balances", "cost"}  # forty steps are too few for these


def test_its_numbers_agree_with_each_other() -> None:
    results = run_here("moe", **TINY)
    metrics = results.metrics
    work, arms, capacity = results.tables

    assert results.broken <= TRAINED
    assert metrics["leak"] < 1e-6 < 0.01 < metrics["leak_summed"]
    one, eight, sixteen, many, soft = work.rows
    assert sixteen[1] - eight[1] == 8 * (one[1] + 16)  # eight more experts and rows of the router
    assert [row[2] for row in (eight, sixteen, many)] == [2 * one[2] + 2 * 16 * n for n in (8, 16, 32)]
    assert metrics["soft_over_hard"] == pytest.approx(soft[2] / eight[2])
    assert [row[1] for row in arms.rows] == [metrics[f"imbalance{arm}"] for arm in ("", "_loss", "_bias")]
    assert [row[2] for row in capacity.rows] == [metrics["dropped"], metrics["dropped_balanced"]]
    assert {point.series for point in results.points} == {row[0] for row in arms.rows}


def test_a_balancing_loss_of_no_weight_changes_nothing() -> None:
    results = run_here("moe", **TINY, coefficient=0.0)

    assert results.metrics["imbalance_loss"] == results.metrics["imbalance"]
