"""The sliding-window lab: what it counts follows from the shapes."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from llmquiz.lab.sdk import LabError  # noqa: E402

from .running import run_here  # noqa: E402

pytestmark = pytest.mark.labs

SMALL = {"DOCUMENTS": 2, "WINDOWS": (256, 8), "TURNS": 1, "TILE": 32, "HEADS": 1}
SHAPED = {"linear-time", "linear-cost"}  # hold at the default size


def test_its_numbers_agree_with_each_other() -> None:
    results = run_here("sliding-window", SMALL, tokens=256, window=32, layers=3, reach_window=5)
    metrics = results.metrics
    cost, reach, cut = results.tables

    assert results.broken <= SHAPED
    assert metrics["pairs"] == 256 * 32 - 32 * 31 // 2
    assert metrics["pairs_share"] == metrics["pairs"] / (256 * 257 / 2)
    assert metrics["reach"] == 3 * 4
    assert dict(reach.rows)[12] > 0 == dict(reach.rows)[13]
    assert metrics["cache_bytes"] == 2 * 2 * 2 * 16 * 16 * 4
    assert metrics["cache_ratio"] == 4
    assert cost.rows[-1][1] == pytest.approx(4 * 64 * 32 * (32 + 63 * 7) / 1e6)  # 32 queries see 32 keys, then 63
    losses = {row[:2]: row[2] for row in cut.rows}
    assert losses["all", None] == losses["window", 256] == metrics["loss_full"]
    assert losses["window", 8] == metrics["loss_narrow"] > metrics["loss_full"]
    assert metrics["sink_gain"] == pytest.approx(metrics["loss_narrow"] - cut.rows[-1][2])


def test_a_window_that_is_too_wide_is_refused() -> None:
    with pytest.raises(LabError, match="a window of 128 is no quarter of 256 tokens"):
        run_here("sliding-window", SMALL, tokens=256)


def test_a_ring_that_keeps_too_little_would_break_its_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    from llmquiz.llm.cache.ring import RingCache

    right = RingCache.__init__

    def short(self: RingCache, config: object, **options: object) -> None:
        from dataclasses import replace

        right(self, replace(config, sliding_window=15), **options)  # type: ignore[type-var, arg-type]

    monkeypatch.setattr(RingCache, "__init__", short)
    others = dict.fromkeys(("measure_cost", "measure_reach", "cut_window"), lambda params, report: None)
    results = run_here("sliding-window", others, tokens=256, window=32)
    assert "bounded-cache" in results.broken
