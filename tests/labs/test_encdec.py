"""The encoder-decoder lab, small: leakage is seen at once, the floor is exact, and the source is read once."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from llmquiz.lab.sdk import LabError  # noqa: E402

from .running import Results, run_here  # noqa: E402

pytestmark = pytest.mark.labs

TRAINED = {"learns", "loss-is-fooled", "reads-backwards"}  # judged by runs of default size
FEW = {"HELD_OUT": 32}


@pytest.fixture(scope="module")
def results() -> Results:
    threads = torch.get_num_threads()
    tiny = run_here("encdec", FEW, size="tiny", length=5)
    torch.set_num_threads(threads)
    return tiny


def test_its_numbers_agree_with_each_other(results: Results) -> None:
    metrics = results.metrics
    right = 0.8 + 0.2 / 16

    assert results.broken <= TRAINED
    assert metrics["floor_loss"] == pytest.approx(-right * math.log(right) - 15 * 0.0125 * math.log(0.0125))
    assert (metrics["source_positions"], metrics["source_positions_again"]) == (5, 25)
    assert results.claims["no-leak"].measured == 0
    assert metrics["leaky_change"] > 0.1
    for share in ("accuracy", "leaky_accuracy", "unordered_accuracy", "antidiagonal_mass"):
        assert 0 <= metrics[share] <= 1


def test_each_model_has_a_curve_and_a_row(results: Results) -> None:
    reversing, writing = results.tables
    models = ["right", "no causal mask", "no positions"]

    assert [row[0] for row in reversing.rows] == models
    for model in models:
        assert [point.x for point in results.points if point.series == model] == [10, 20, 30]
    assert writing.rows == (("kept", 5, 5), ("computed again", 25, 15))


def test_a_lost_mask_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from llmquiz.llm.model.encoder_decoder import CrossBlock

    right = CrossBlock.__init__
    monkeypatch.setattr(
        CrossBlock,
        "__init__",
        lambda self, *args, causal: right(self, *args, causal=False),
    )
    results = run_here("encdec", FEW, size="tiny")

    assert "no-leak" in results.broken


def test_a_source_without_order_is_refused() -> None:
    with pytest.raises(LabError, match="no order to reverse; use --length 2 or more"):
        run_here("encdec", size="tiny", length=1)
