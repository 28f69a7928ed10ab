"""The checkpointing lab: bytes and FLOPs that can be checked against each other, and faults that it would notice."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from llmquiz.lab.sdk import LabError  # noqa: E402

from .running import run_here  # noqa: E402

pytestmark = pytest.mark.labs

TINY = {"size": "tiny"}
SPLIT = {"every-layer-best", "square-root"}  # of four layers there is little to choose


def test_its_numbers_agree_with_each_other() -> None:
    results = run_here("checkpointing", **TINY)
    metrics = results.metrics
    none, *_, every_layer = results.tables[0].rows

    assert results.broken <= SPLIT
    assert (none[0], every_layer[0]) == ("none", 4)
    assert none[1:3] == pytest.approx((metrics["saved_plain"], metrics["peak_ratio"] * metrics["peak"]))
    assert every_layer[1] == metrics["saved_every_layer"]
    assert every_layer[4] == metrics["time_ratio"]
    assert 1.15 < every_layer[3] < metrics["work_ratio"] < 4 / 3
    assert metrics["gradient_error"] == 0
    assert metrics["accumulation_error"] < 1e-6 < 0.05 < metrics["mean_of_means_error"]


def test_parts_need_not_divide_the_batch() -> None:
    results = run_here("checkpointing", **TINY, parts=3)

    assert {"accumulate", "part-memory"}.isdisjoint(results.broken)
    assert results.metrics["part_share"] == pytest.approx(3 / 8, rel=0.05)


def test_a_layer_that_draws_anew_when_recomputed_breaks_the_first_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    """The classic fault: dropout whose random numbers are not restored, so the recomputed layer is another one."""
    from torch.utils import checkpoint

    from llmquiz.llm.model.feed_forward import FeedForward

    right = FeedForward.forward
    generator = torch.Generator().manual_seed(0)  # of its own: checkpoint restores torch's global one only

    def noisy(self: FeedForward, x: torch.Tensor) -> torch.Tensor:
        return right(self, x * torch.empty(x.shape).bernoulli_(0.9, generator=generator))

    monkeypatch.setattr(FeedForward, "forward", noisy)
    monkeypatch.setattr(checkpoint, "_DEFAULT_DETERMINISM_MODE", "none")
    assert "same-gradients" in run_here("checkpointing", **TINY).broken


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(LabError, match=r"takes about \d+\.\d GiB .*choose a smaller --batch"):
        run_here("checkpointing", size="base", batch=256)
