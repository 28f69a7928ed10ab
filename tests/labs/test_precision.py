"""The precision lab: its numbers follow from the bits at any size."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from .running import run_here  # noqa: E402

pytestmark = pytest.mark.labs

TINY = {"size": "tiny", "steps": 30}
FEWER = {"GRADIENTS": 20_000, "COUNT": 4_000}


@pytest.mark.slow
def test_its_numbers_follow_from_the_bits() -> None:
    results = run_here("precision", FEWER, **TINY)
    metrics = results.metrics

    assert results.broken == set()
    assert metrics["fp16_largest"] == (2 - 2**-10) * 2**15
    assert metrics["fp16_smallest"] == 2**-24
    assert metrics["bf16_counts_to"] == 256
    assert (metrics["running_sum_bf16"], metrics["running_sum_fp16"]) == (4, 32)
    assert metrics["settled_scale"] == 2**19  # the largest that brings 0.1 below 65504
    assert metrics["lost_gradients_scaled"] == 0
    assert {row[0] for row in results.tables[0].rows} == {"fp32", "bf16", "fp16"}
    assert {point.series for point in results.points} == {row[0] for row in results.tables[1].rows}


@pytest.mark.slow
def test_a_larger_rate_leaves_fewer_weights_frozen() -> None:
    slow, fast = (run_here("precision", FEWER, size="tiny", steps=10, lr=lr) for lr in (1e-5, 1e-4))

    assert fast.metrics["frozen_share"] < slow.metrics["frozen_share"] - 0.05
    assert {"frozen", "limits", "sum-stalls"}.isdisjoint(fast.broken | slow.broken)


def test_a_wrong_range_of_gradients_is_noticed() -> None:
    """Scaling cannot save what is smaller still: the claim that nothing is lost would break."""
    results = run_here("precision", FEWER | {"SMALLEST_GRADIENT": 1e-16}, size="tiny", steps=10)

    assert "loss-scale" in results.broken
    assert "underflow" not in results.broken
