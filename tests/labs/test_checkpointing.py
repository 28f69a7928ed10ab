"""The checkpointing lab: bytes and FLOPs that can be checked against each other, and faults that it would notice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from llmquiz.lab.sdk import LabError  # noqa: E402
from llmquiz.llm.base import load  # noqa: E402
from llmquiz.llm.base.saving import save_model  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import random_decoder  # noqa: E402

from .running import run_here  # noqa: E402

pytestmark = pytest.mark.labs

TINY = {"size": "tiny"}
SPLIT = {"every-layer-best", "square-root"}  # of four layers there is little to choose


def test_its_numbers_agree_with_each_other() -> None:
    results = run_here("checkpointing", **TINY)
    metrics = results.metrics
    none, *_, every_layer = results.tables[0].rows

    assert results.broken <= SPLIT
    assert (none[0], every_layer[0]) == ("none", 4)
    assert none[1:3] == pytest.approx((metrics["saved_plain"], metrics["peak_ratio"] * metrics["peak"]))
    assert every_layer[1] == metrics["saved_every_layer"]
    assert every_layer[4] == metrics["time_ratio"]
    assert 1.15 < every_layer[3] < metrics["work_ratio"] < 4 / 3
    assert metrics["gradient_error"] == 0
    assert metrics["accumulation_error"] < 1e-6 < 0.05 < metrics["mean_of_means_error"]


def test_parts_need_not_divide_the_batch() -> None:
    results = run_here("checkpointing", **TINY, parts=3)

    assert {"accumulate", "part-memory"}.isdisjoint(results.broken)
    assert results.metrics["part_share"] == pytest.approx(3 / 8, rel=0.05)


def test_a_layer_that_draws_anew_when_recomputed_breaks_the_first_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    """The classic fault: dropout whose random numbers are not restored, so the recomputed layer is another one."""
    from torch.utils import checkpoint

    from llmquiz.llm.model.feed_forward import FeedForward

    right = FeedForward.forward
    generator = torch.Generator().manual_seed(0)  # of its own: checkpoint restores torch's global one only

    def noisy(self: FeedForward, x: torch.Tensor) -> torch.Tensor:
        return right(self, x * torch.empty(x.shape).bernoulli_(0.9, generator=generator))

    monkeypatch.setattr(FeedForward, "forward", noisy)
    monkeypatch.setattr(checkpoint, "_DEFAULT_DETERMINISM_MODE", "none")
    assert "same-gradients" in run_here("checkpointing", **TINY).broken


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(LabError, match=r"takes about \d+\.\d GiB .*choose a smaller --batch"):
        run_here("checkpointing", size="base", batch=256)


def tiny_checkpoint(folder: Path, num_layers: int, max_position: int = 64) -> str:
    """A random Llama with the shipped tokenizer."""
    config = ModelConfig(2048, 32, num_layers, 2, 1, 16, 64, max_position=max_position)
    save_model(random_decoder(config, seed=1), load.FOLDER / "tokenizer.json", folder, dtype=torch.float32)
    return str(folder)


@pytest.mark.parametrize(("num_layers", "splits"), [(1, [1]), (3, [1, 3])])
def test_a_checkpoint_of_the_user_is_measured(tmp_path: Path, num_layers: int, splits: list[int]) -> None:
    results = run_here("checkpointing", **TINY, model=tiny_checkpoint(tmp_path, num_layers, max_position=12))
    ours, theirs = results.tables
    inputs = [claim for claim in results.tested if claim.name == "keeps-inputs"]

    assert results.broken <= SPLIT
    assert [claim.measured for claim in inputs] == [3, num_layers - 1]
    assert ours.name == "4 layers, 8 x 16 tokens"
    assert theirs.name == f"{tmp_path.name}: {num_layers} layers, 8 x 12 tokens"  # no more than it has positions for
    assert [row[0] for row in theirs.rows] == ["none", *splits]
    assert [point.x for point in results.points if point.series == tmp_path.name] == splits
    assert results.metrics["saved_plain"] == theirs.rows[0][1]
    assert results.metrics["saved_every_layer"] == theirs.rows[-1][1]
    assert 1 < results.metrics["work_ratio"] < 4 / 3


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"model_type": "gpt2"}, "'gpt2' is not one of llama"),
        ({"hidden_size": 2**20}, r"takes about \d+\.\d GiB"),  # seen before the weights, of which there are none
        ({}, r"no \*\.safetensors here"),
    ],
)
def test_a_checkpoint_that_cannot_work_is_refused(tmp_path: Path, change: dict[str, object], problem: str) -> None:
    tiny_checkpoint(tmp_path, 2)
    (tmp_path / "model.safetensors").unlink()
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))

    with pytest.raises(LabError, match=problem):
        run_here("checkpointing", **TINY, model=str(tmp_path))


@pytest.mark.slow
def test_a_checkpoint_needs_no_tokenizer_and_may_have_norms_on_its_heads(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.Qwen3Config(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        intermediate_size=64,
        tie_word_embeddings=True,
    )
    transformers.Qwen3ForCausalLM(config).save_pretrained(tmp_path)
    results = run_here("checkpointing", **TINY, model=str(tmp_path))

    assert results.broken <= SPLIT
    assert [row[0] for row in results.tables[1].rows] == ["none", 1, 3]
