"""The QLoRA lab on the shipped base with few steps: bits from formulas, and the merges against each other."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from .peers import without_peers  # noqa: E402
from .running import Results, run_here  # noqa: E402

pytestmark = pytest.mark.labs

LEARNED = {"learns-through-nf4", "merge-elsewhere"}  # what takes more steps than a test has


@pytest.fixture(scope="module")
def results() -> Results:
    with without_peers():
        return run_here("qlora", {"TURNS": 1}, steps=2, block=128)


@pytest.mark.slow
def test_its_numbers_agree_with_each_other(results: Results) -> None:
    metrics = results.metrics
    formats, memory, training, merges, _ = results.tables

    assert results.broken <= LEARNED
    assert metrics["bits"] == 4 + 32 / 128
    assert metrics["bits_double"] == pytest.approx(4 + 8 / 128 + 32 / (256 * 128), abs=1e-3)
    assert metrics["base_bits"] == pytest.approx(4.127, abs=0.01)  # the base keeps blocks of 64
    assert metrics["weights_ratio"] == pytest.approx(16 / metrics["base_bits"])
    assert [row[0] for row in formats.rows] == ["NF4", "int4", "FP4"]
    assert formats.rows[0][2] == metrics["nf4_error"] < formats.rows[1][2] < formats.rows[2][2]
    assert [row[0] for row in memory.rows] == ["fp32", "bf16", "NF4"]
    assert memory.rows[0][3] > memory.rows[1][3] > memory.rows[2][3]
    assert metrics["loss_qlora"] == training.rows[1][2] == [p.y for p in results.points if "NF4" in p.series][-1]
    moved = [metrics[f"moved_{way}"] for way in ("dequantized", "original", "rounded")]
    assert [row[1] for row in merges.rows] == [0.0, *moved]
    assert moved[0] < 1e-4 < min(moved[1:])


def test_without_bitsandbytes_the_comparison_is_left_out_and_said(results: Results) -> None:
    assert "speedup_over_bitsandbytes" not in results.metrics
    assert [row[0] for row in results.tables[-1].rows] == ["ours", "dequantized weight"]
    assert "bitsandbytes is not installed: it was left out of the comparison" in results.notes


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # within peft and transformers
def test_bitsandbytes_gives_the_same_layer() -> None:
    pytest.importorskip("bitsandbytes")
    results = run_here("qlora", {"TURNS": 1}, steps=2)

    assert results.claims["same-layer"].held
    assert results.metrics["speedup_over_bitsandbytes"] > 0
    assert results.tables[-1].rows[-1][0] == "bitsandbytes"
