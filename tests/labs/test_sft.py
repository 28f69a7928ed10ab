"""The SFT lab: its numbers follow from each other, and two processes find what one finds."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

pytest.importorskip("torch")

from llmquiz.lab.sdk import LabError
from llmquiz.llm.errors import ModelError

from .running import Results, run_here

pytestmark = pytest.mark.labs

SMALL = {"EXAM": 8, "RAGGED": 12}
EXACT = {"packed-loss", "never-stops"}  # hold after any number of steps


def small(**params: object) -> Results:
    return run_here("sft", SMALL, **{"steps": 2, "batch": 4, **params})


def test_its_numbers_agree_with_each_other() -> None:
    results = small(words=2)
    metrics = results.metrics
    exam, packing = results.tables
    rows = {row[0]: row for row in exam.rows}

    assert set(results.claims) - results.broken >= EXACT
    assert metrics["entropy"] == pytest.approx(2 * math.log(8))
    assert list(rows) == ["base model", "answers only", "all tokens", "no end"]
    assert metrics["prompt_nats"] == rows["all tokens"][1]
    assert rows["all tokens"][1] < rows["base model"][1]  # two steps on the prompts help with prompts
    assert metrics["answer_loss"] == rows["answers only"][2]
    assert len(results.points) == 3 * 2
    for name, count, length, padding, _ in packing.rows:
        tokens = count * length * (1 - padding / 100)
        assert tokens == pytest.approx(round(tokens), abs=1e-6)
        assert padding == pytest.approx(metrics["padding" if name == "padded" else "padding_packed"])


@pytest.mark.slow
def test_a_narrow_format_changes_the_losses_a_little() -> None:
    wide, *narrow = ([p.y for p in small(precision=name).points] for name in ("fp32", "bf16", "fp16"))

    for losses in narrow:
        assert losses != wide
        assert losses == pytest.approx(wide, rel=0.05)


@pytest.mark.slow
def test_two_processes_find_what_one_finds() -> None:
    one, two = small(), small(processes=2, shard=True)

    assert [(p.series, p.x) for p in two.points] == [(p.series, p.x) for p in one.points]  # rank 0 alone reports
    assert [p.y for p in two.points] == pytest.approx([p.y for p in one.points], rel=1e-4)
    assert two.metrics == pytest.approx(one.metrics, rel=1e-3, abs=1e-3)


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        small(model=str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ModelError, match=r"no \*.safetensors"):
        small(model=str(tmp_path))


def test_a_model_of_another_family_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from llmquiz.llm.base import load

    class Other(torch.nn.Module):
        pass

    whole = load.base_model()
    monkeypatch.setattr(load, "base_model", lambda *_, **__: load.LanguageModel(Other(), whole.tokenizer, "other"))
    with pytest.raises(LabError, match="use a model of the Llama family"):
        small()
