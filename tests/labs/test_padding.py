"""The padding lab: every claim holds on a small batch, and faults of the loop would break them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.lab.sdk import LabError  # noqa: E402

from .peers import without_peers  # noqa: E402
from .running import Results, run_here  # noqa: E402

pytestmark = pytest.mark.labs

SMALL = {"batch": 6, "shortest": 3, "longest": 20, "new_tokens": 4}


@pytest.fixture(scope="module")
def results() -> Results:
    threads = torch.get_num_threads()
    with without_peers():
        small = run_here("padding", **SMALL)
    torch.set_num_threads(threads)
    return small


def test_claims_hold_for_a_small_batch(results: Results) -> None:
    assert results.broken == set()
    assert results.metrics["same_tokens"] == 1


def test_without_transformers_the_comparison_is_left_out_and_said(results: Results) -> None:
    assert "same_as_transformers" not in results.metrics
    assert results.notes == ["transformers is not installed: it was left out of the comparison"]


@pytest.mark.slow
def test_transformers_continues_the_batch_as_ours() -> None:
    pytest.importorskip("transformers")
    results = run_here("padding", **SMALL)

    assert results.broken == set()
    assert results.metrics["same_as_transformers"] == 1


def test_waste_is_that_of_evenly_spaced_lengths(results: Results) -> None:
    lengths = [round(3 + 17 * i / 5) for i in range(6)]

    assert results.metrics["wasted"] == pytest.approx(1 - sum(lengths) / (6 * 20), abs=1e-6)
    assert results.metrics["wasted_sorted"] < results.metrics["wasted"]


def test_the_table_holds_the_worst_point_of_each_curve(results: Results) -> None:
    for way, *errors in results.tables[0].rows:
        for name, error in zip(("rotary", "learned"), errors, strict=True):
            curve = [point.y for point in results.points if point.series == f"{name}: {way}"]
            assert len(curve) == 6
            assert max(curve) == pytest.approx(max(error, 1e-9))


def test_a_loop_that_ignores_the_mask_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from llmquiz.llm.model import attention

    right = attention.visibility

    def blind(*args: Any, mask: Any = None, **kwargs: Any) -> Any:
        return right(*args, mask=None, **kwargs)

    monkeypatch.setattr(attention, "visibility", blind)

    with without_peers():
        assert "left-is-alone" in run_here("padding", **SMALL).broken


def test_the_longest_prompt_alone_wastes_nothing_but_two_lengths_are_needed() -> None:
    with pytest.raises(LabError, match="--shortest 20 is not below --longest 20"):
        run_here("padding", **{**SMALL, "shortest": 20})


def test_prompts_past_the_models_positions_are_refused() -> None:
    with pytest.raises(LabError, match="choose a smaller --longest"):
        run_here("padding", **{**SMALL, "batch": 64, "longest": 8000})


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"config.json"):
        run_here("padding", **SMALL, model=str(tmp_path))
