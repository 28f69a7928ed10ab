"""The positions lab, small: what holds before training, its numbers among each other, and faults that it would find."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from .peers import without_peers  # noqa: E402
from .running import Results, run_here  # noqa: E402

pytestmark = pytest.mark.labs

TRAINED = {"alibi-flat", "others-break", "stretching-helps", "linear-blurs", "linear-trained-on", "no-swapping"}
FEW = {"HELD_OUT": 4, "STORIES": 60, "WINDOWS": 8}


@pytest.fixture(scope="module")
def results() -> Results:
    threads = torch.get_num_threads()
    with without_peers():
        tiny = run_here("positions", FEW, size="tiny", trained=32)
    torch.set_num_threads(threads)
    return tiny


def test_what_needs_no_training_holds_at_any_size(results: Results) -> None:
    assert results.broken <= TRAINED
    assert {test.name for test in results.tested} == {*results.claims}
    rows = {row[0]: row[1:] for row in results.tables[0].rows}
    assert rows["none"][0] < 1e-4 < rows["rope"][0]
    assert rows["rope"][1] == 0 < rows["sliced by the wrong axis"][1]


def test_growth_is_the_ratio_of_the_tables_losses(results: Results) -> None:
    rows = {row[0]: row[1:] for row in results.tables[2].rows}

    assert list(rows) == ["rope", "linear", "ntk", "yarn", "linear, trained on", "rope -> alibi", "alibi", "sinusoidal"]
    for kind in ("rope", "alibi", "sinusoidal"):
        assert results.metrics[f"{kind}_growth"] == pytest.approx(rows[kind][1] / rows[kind][0])
    assert results.metrics["yarn_far"] == pytest.approx(rows["yarn"][2] / rows["rope"][2])


def test_curves_reach_the_far_end(results: Results) -> None:
    for series in ("rope", "yarn", "alibi"):
        positions = [point.x for point in results.points if point.series == series]
        assert len(positions) == 8
        assert 1 < positions[0] < 32 < 112 < positions[-1] <= 128


def test_a_rotation_that_forgets_where_it_starts_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from llmquiz.llm.model.positions import RotaryEmbedding

    right = RotaryEmbedding.forward

    def backwards(self: Any, start: int, x: Any, positions: Any = None) -> Any:
        cos, sin = right(self, 0, x, positions)
        return (cos, sin) if start == 0 else (cos.flip(0), sin)

    monkeypatch.setattr(RotaryEmbedding, "forward", backwards)

    with without_peers():
        assert "relative" in run_here("positions", FEW, size="tiny", trained=32).broken


def test_pairs_are_slowed_as_the_methods_say(results: Results) -> None:
    rows = {row[0]: row[1:] for row in results.tables[1].rows}

    assert rows["linear"] == pytest.approx((4, 4, 4, 1))
    assert rows["ntk"] == pytest.approx((13, 1, 13, 1))
    assert rows["yarn"] == pytest.approx((4, 1, 4, (0.1 * math.log(4) + 1) ** 2))
    assert "library_error" not in results.metrics
    assert "transformers is not installed" in results.notes[0]


@pytest.mark.slow
def test_transformers_stretches_as_we_do() -> None:
    pytest.importorskip("transformers")
    results = run_here("positions", FEW, size="tiny", trained=32)

    assert results.metrics["library_error"] < 1e-5
    assert "stretched-pairs" not in results.broken
