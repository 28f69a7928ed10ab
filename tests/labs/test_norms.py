"""The norms lab, small: counts and formulas that hold at any size, and what breaks if a norm is wrong."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from .running import Results, run_here  # noqa: E402

pytestmark = pytest.mark.labs

FAST = {"INITS": 1, "DEPTHS": (2, 6)}
TRAINED = {"post-needs-warmup", "others-do-not", "same-quality"}  # judged by runs of default size
SAMPLED = {"post-keeps-large", "pre-falls", "deep-falls"}  # so many initial weights are averaged there


@pytest.fixture(scope="module")
def results() -> Results:
    threads = torch.get_num_threads()
    tiny = run_here("norms", FAST, size="tiny")
    torch.set_num_threads(threads)
    return tiny


def test_counts_and_formulas_hold_at_any_size(results: Results) -> None:
    metrics = results.metrics

    assert results.broken <= TRAINED | SAMPLED
    assert (metrics["layernorm_passes"], metrics["rmsnorm_passes"]) == (7, 4)
    assert metrics["rmsnorm_output_mean"] == pytest.approx(5 / math.sqrt(26), abs=0.01)
    assert metrics["floor_loss"] < metrics["unigram_loss"] < math.log(32)
    assert metrics["post_warmup_gain"] == pytest.approx(metrics["post_cold_loss"] - metrics["post_warm_loss"])
    assert metrics["norm_difference"] == pytest.approx(abs(metrics["pre_rms_loss"] - metrics["pre_cold_loss"]))


def test_exponents_are_those_of_the_points(results: Results) -> None:
    for placement in ("pre", "post", "deep"):
        (x1, y1), (x2, y2) = [
            (p.x, p.y) for p in results.points if p.series == placement and p.metric == "last_gradient"
        ]
        assert results.metrics[f"{placement}_exponent"] == pytest.approx(math.log(y2 / y1) / math.log(x2 / x1))
    assert results.metrics["deep_gradient_fall"] == pytest.approx(y1 / y2)


def test_each_way_has_a_curve_and_a_row(results: Results) -> None:
    curves = {point.series for point in results.points if point.metric == "training_loss"}
    losses, norms = results.tables

    assert len(curves) == 7
    assert [row[0] for row in losses.rows][:3] == ["pre-norm", "post-norm", "deep-norm"]
    assert [row[0] for row in norms.rows] == ["LayerNorm", "RMSNorm"]


def test_a_norm_that_centres_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """RMSNorm that divides by the standard deviation, as is often told."""
    from llmquiz.llm.model.norms import RMSNorm

    def wrong(self: Any, x: Any) -> Any:
        return self.weight * (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)

    monkeypatch.setattr(RMSNorm, "forward", wrong)
    results = run_here("norms", FAST, size="tiny")

    assert {"same-as-torch", "mean-stays", "fewer-passes"} <= results.broken
