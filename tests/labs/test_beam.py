"""The beam lab: its numbers follow from each other, with and without transformers beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from llmquiz.lab.events import TableReported
from llmquiz.lab.sdk import LabError
from llmquiz.llm.errors import ModelError

from .peers import without_peers
from .running import Results, run_here

pytestmark = pytest.mark.labs

SMALL = {"EXHAUSTIVE_TOKENS": 3, "EXHAUSTIVE_PROMPTS": 1, "BASE_PROMPTS": 1, "BASE_PROMPT": 6, "BASE_TOKENS": 3}
EXACT = {"exhaustive", "cost", "same-beams"}  # hold at any size


def small(**params: object) -> Results:
    return run_here("beam", SMALL, **{"beams": 4, "prompts": 12, "new_tokens": 5, **params})


def table(results: Results, name: str) -> TableReported:
    return next(found for found in results.tables if name in found.name)


def test_its_numbers_agree_with_each_other() -> None:
    with without_peers():
        results = small()
    metrics = results.metrics

    assert set(results.claims) - results.broken >= EXACT
    widths = {row[0]: row[1:] for row in table(results, "12 prompts").rows}
    assert list(widths) == [1, 2, 4]
    assert widths[2][1] == metrics["worse"]
    assert [(p.x, p.y) for p in results.points if p.metric == "error"] == [(w, row[0]) for w, row in widths.items()]
    assert widths[1][2] == widths[1][3]  # one beam has one text, however it is scored
    assert (widths[4][2], widths[4][3]) == (metrics["length_by_sum"], metrics["length_by_mean"])
    assert all(row[1] >= row[3] - 1e-4 for row in table(results, "all 125 texts").rows)
    assert [row[0] for row in table(results, "llmquiz-base").rows] == ["ours, 1", "ours, 4"]
    assert "transformers is not installed: it was left out of the comparison" in results.notes


@pytest.mark.slow
def test_transformers_stands_beside_it() -> None:
    pytest.importorskip("transformers")
    rows = {row[0]: row for row in table(small(), "llmquiz-base").rows}

    assert rows["transformers, 4"][1] == pytest.approx(rows["ours, 4"][1], abs=1e-4)


def test_more_than_the_memory_is_refused() -> None:
    with pytest.raises(LabError, match="lower --beams"):
        small(beams=128, prompts=2000, new_tokens=128)


def test_a_checkpoint_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ModelError, match=r"no \*.safetensors"):
        small(model=str(tmp_path), beams=2, prompts=8, new_tokens=4)
