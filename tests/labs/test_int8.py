"""The int8 lab: its numbers follow from each other, and each place of an outlier has its own remedy."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("torch")

from llmquiz.lab.sdk import LabError

from .running import Results, run_here

pytestmark = pytest.mark.labs


@pytest.fixture(scope="module")
def results() -> Results:
    return run_here(
        "int8", {"CALIBRATION": 2, "BITS": (4, 6, 8), "TURNS": 1}, texts=2, width=64, outlier=32.0, feature=500.0
    )


def test_its_numbers_agree_with_each_other(results: Results) -> None:
    metrics = results.metrics
    weights, rows, models, ranges, features, speed = results.tables
    fp32, dynamic, _, torchs = models.rows

    assert results.broken == set()
    assert len(results.points) == 3 * 3
    assert metrics["db_per_bit"] == pytest.approx((weights.rows[-1][2] - weights.rows[0][2]) / 4)
    assert metrics["tensor_loss"] == pytest.approx(rows.rows[0][1] - rows.rows[1][1])
    assert metrics["file_ratio"] == pytest.approx(fp32[1] / dynamic[1]) == pytest.approx(dynamic[2])
    assert metrics["perplexity_dynamic"] == dynamic[-1]
    assert fp32[1] > 2 * dynamic[1] > 2 * torchs[3]  # parameters() says less than the file
    assert metrics["min_max_loss"] == pytest.approx(ranges.rows[0][1] - ranges.rows[0][2])
    assert metrics["features_harm"] == features.rows[2][2]
    assert len(speed.rows) == 2 * 4


def test_every_bit_and_every_finer_scale_helps(results: Results) -> None:
    weights = results.tables[0].rows

    for before, after in pairwise(weights):
        assert all(b > a for a, b in zip(before[1:], after[1:], strict=True))
    assert all(row[1] < row[2] < row[3] for row in weights)


def test_another_family_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torch

    from llmquiz.llm.base import load

    whole = load.base_model()
    other = load.LanguageModel(torch.nn.Linear(2, 2), whole.tokenizer, "other")
    monkeypatch.setattr(load, "base_model", lambda *_, **__: other)
    with pytest.raises(LabError, match="use a model of that family"):
        run_here("int8")
    monkeypatch.undo()
    with pytest.raises(LabError, match=r"config\.json"):
        run_here("int8", model=str(tmp_path))
