"""The flash lab: what it counts follows from the shapes."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from llmquiz.lab.sdk import LabError

from .running import run_here

pytestmark = pytest.mark.labs

SMALL = {"EXACT_TOKENS": 40, "TURNS": 1, "HALVINGS": 2}
SHAPED = {"faster", "linear-memory", "fewer-bytes"}  # hold at the default size


def test_its_numbers_agree_with_each_other() -> None:
    results = run_here("flash", SMALL, tokens=128, heads=2, head_dim=16, tile=32)
    metrics = results.metrics
    errors, operations, memory, times = results.tables

    assert results.broken <= SHAPED
    assert (metrics["forward_ratio"], metrics["backward_ratio"]) == (1.0, 1.25)
    assert metrics["score_bytes"] == 2 * 32 * 32 * 4
    assert metrics["score_ratio"] == 4**2
    assert metrics["causal_share"] == 10 / 16
    whole = 4 * 2 * 16 * 128**2 / 1e6
    assert [row[1] for row in operations.rows] == pytest.approx([whole, whole, whole * 10 / 16])
    plain = {p.x: p.y for p in results.points if p.series == "plain"}
    assert list(plain) == [64, 128]
    assert memory.rows[0][1] == plain[128] > 3 * plain[64]
    assert {row[1] for row in errors.rows} >= {"plain", "tiled", "torch, math", "torch, flash"}
    assert (
        max(row[2] for row in errors.rows if row[0] == "fp32") < 1e-6 < min(r[2] for r in errors.rows if r[0] == "bf16")
    )
    remarks = {row[0]: row[3] for row in times.rows}
    assert remarks["torch, flash"] == "torch's choice"
    assert remarks["torch, cudnn"].startswith("needs CUDA")


def test_lengths_that_are_no_multiple_of_a_tile_keep_the_exact_claims() -> None:
    untimed = SMALL | {"measure_time": lambda params, report: None}
    results = run_here("flash", untimed, tokens=150, heads=1, head_dim=16, tile=64)

    assert results.broken <= SHAPED
    assert results.metrics["score_bytes"] == 64 * 64 * 4


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(LabError, match=r"128 tokens need 0\.0 GiB without tiles"):
        run_here("flash", SMALL | {"memory_available": lambda device: 10**5}, tokens=128, heads=1)
