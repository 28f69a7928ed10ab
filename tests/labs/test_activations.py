"""The activations lab, small: exact counts, shares that are shares, and a comparison that is fair."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from .running import Results, run_here  # noqa: E402

pytestmark = pytest.mark.labs

TRAINED = {"sparser-after", "swiglu-no-worse"}  # judged by runs of default size


@pytest.fixture(scope="module")
def results() -> Results:
    threads = torch.get_num_threads()
    tiny = run_here("activations", size="tiny")
    torch.set_num_threads(threads)
    return tiny


def test_its_numbers_agree_with_each_other(results: Results) -> None:
    metrics = results.metrics

    assert results.broken <= TRAINED
    assert metrics["layer_parameters"] == 8 * 24**2
    assert metrics["swiglu_width"] == 64
    assert metrics["unfair_ratio"] == 1.5
    assert metrics["swiglu_gain"] == pytest.approx(metrics["relu_loss"] - metrics["swiglu_loss"])
    assert 0.4 < metrics["relu_active_before"] < 0.6
    assert 0 <= metrics["relu_dead"] < metrics["relu_active"] < 1
    assert all(metrics[f"{name}_loss"] > metrics["floor_loss"] for name in ("relu", "gelu", "swiglu"))


def test_the_table_says_what_the_metrics_say(results: Results) -> None:
    (table,) = results.tables

    assert [row[:2] for row in table.rows] == [("relu", 96), ("gelu", 96), ("swiglu", 64)]
    assert [row[2] for row in table.rows] == [results.metrics[f"{name}_loss"] for name in ("relu", "gelu", "swiglu")]
    assert table.rows[0][3] == results.metrics["relu_active"]


def test_a_swiglu_as_wide_as_the_others_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    results = run_here("activations", {"equal_width": lambda hidden, _activation: 4 * hidden}, size="tiny")

    assert "eight-thirds" in results.broken
