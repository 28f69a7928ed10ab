"""The stability lab: lengths of first updates are exact at any size; what breaks, breaks."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from .running import run_here  # noqa: E402

pytestmark = pytest.mark.labs

TINY = {"size": "tiny", "steps": 30}
FIRST_STEP = {"clip-bounds-sgd", "adam-ignores-clipping", "warmup-bounds-adam"}


def test_first_updates_are_as_long_as_the_formulas_say() -> None:
    results = run_here("stability", **TINY)
    metrics = results.metrics
    rows = {row[:2]: row[2:] for row in results.tables[0].rows}

    assert FIRST_STEP.isdisjoint(results.broken)
    assert metrics["adam_first_update"] == pytest.approx(0.1, rel=0.02)
    assert metrics["warmup_ratio"] == pytest.approx(10, rel=0.01)
    assert rows["sgd", "clipping"][0] == pytest.approx(0.25 * metrics["breaking_rate"], rel=1e-3)
    assert metrics["first_update_ratio"] == pytest.approx(rows["sgd", "neither"][0] / rows["sgd", "clipping"][0])
    assert len(rows) == 8


def test_a_harmless_rate_is_raised_until_the_tries_are_spent() -> None:
    results = run_here("stability", {"RAISES": 2}, size="tiny", steps=20, sgd_lr=0.001)

    assert "sgd-breaks" in results.broken
    assert FIRST_STEP.isdisjoint(results.broken)
    assert results.metrics["spike"] < 1.1


def test_a_limit_above_the_gradient_clips_nothing() -> None:
    results = run_here("stability", {"RAISES": 1}, size="tiny", steps=20, sgd_lr=0.01, max_grad_norm=100.0)

    assert results.metrics["first_update_ratio"] == 1
    assert "clip-bounds-sgd" not in results.broken
