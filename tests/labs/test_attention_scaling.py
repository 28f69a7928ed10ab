"""The attention-scaling lab: its numbers follow from each other."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch")

from llmquiz.lab.sdk import LabError

from .running import run_here

pytestmark = pytest.mark.labs

SMALL = {"QUERIES": 64, "TURNS": 1}
TIMED = "quadratic"


def test_its_numbers_agree_with_each_other() -> None:
    results = run_here("attention-scaling", SMALL, head_dim=100, tokens=128, longest=256)
    metrics = results.metrics
    widths, overflow, lengths = results.tables

    assert results.broken <= {TIMED}
    assert [row[0] for row in widths.rows[::2]] == [16, 64, 100, 256, 1024]
    for width, way, spread, entropy, largest, gradient in widths.rows:
        assert spread == pytest.approx(1 if "divided by" in way else math.sqrt(width), rel=0.2)
        assert 0 < entropy < math.log(128)
        assert 1 / 128 < largest < 1
        assert 0 < gradient < 1 - 1 / 128
    assert metrics["gradient_lost"] == pytest.approx(widths.rows[-2][5] / widths.rows[-1][5])
    assert overflow.rows[0][2] > 0 == overflow.rows[1][2]
    for tokens, flops, scores, _ in lengths.rows:
        assert flops == pytest.approx(4 * 64 * tokens**2 / 1e6)
        assert scores == 4 * tokens**2 / 2**20


def test_scores_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LabError, match=r"256 tokens need 0\.0 GiB of scores; choose a smaller --longest"):
        run_here("attention-scaling", SMALL | {"memory_available": lambda device: 10**6}, longest=256)
