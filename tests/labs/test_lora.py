"""The LoRA lab on the shipped base with few steps: its numbers agree with each other and with the formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.lab.catalog import Catalog  # noqa: E402
from llmquiz.lab.events import Outcome  # noqa: E402
from llmquiz.lab.runner import run_blocking  # noqa: E402
from llmquiz.llm.base.load import base_model  # noqa: E402
from llmquiz.llm.errors import AdapterError, ModelError  # noqa: E402
from llmquiz.llm.tune.lora import LoRAConfig, adapter_parameters, add_lora  # noqa: E402
from llmquiz.llm.tune.saving import save_adapter  # noqa: E402

from .peers import without_peers  # noqa: E402
from .running import LABS, Results, run_here  # noqa: E402

pytestmark = pytest.mark.labs

LEARNED = {"low-rank-learns", "more-rank-faster"}  # what takes more steps than a test has
CLAIMS = {"eckart-young", "parameter-count", "optimizer-bytes", "b-moves-first", "one-model", "base-untouched"}


@pytest.fixture(scope="module")
def results() -> Results:
    with without_peers():
        return run_here("lora", {"RANKS": (1, 4), "TEACHER_STEPS": 200}, steps=2, rank=2)


@pytest.mark.slow
def test_its_numbers_agree_with_each_other(results: Results) -> None:
    metrics = results.metrics
    model = base_model().model
    expected = add_lora(model, LoRAConfig(2, 4.0))
    total = sum(p.numel() for p in base_model().model.parameters())

    assert results.broken <= LEARNED
    assert set(results.claims) == CLAIMS | LEARNED | {"frozen-first"}
    assert metrics["trainable"] == expected
    assert metrics["optimizer_bytes"] == 8 * expected
    assert metrics["optimizer_ratio"] == pytest.approx(total / expected)
    assert metrics["file_share"] == pytest.approx(expected / total, rel=0.3)  # names and padding come on top
    assert metrics["share_left"] == pytest.approx(0.25, rel=0.05)
    assert 0 < metrics["merge_error"] < 1e-4 < metrics["reload_error_unfrozen"]


def test_every_way_to_train_has_a_curve_and_a_row(results: Results) -> None:
    teacher, codes = results.tables

    assert [row[0] for row in teacher.rows] == [1, 2, 4]
    assert [row[0] for row in codes.rows] == ["full", "r=1", "r=2", "r=4"]
    for row in codes.rows:
        curve = [point.y for point in results.points if point.series == row[0]]
        assert len(curve) == 2
        assert (curve[0], curve[-1]) == (row[4], row[5])
    first = {row[4] for row in codes.rows}
    assert max(first) - min(first) < 1e-5  # every adapter starts as the base


def test_without_peft_the_comparison_is_left_out_and_said(results: Results) -> None:
    assert not {"peft_loss_gap", "speedup_over_peft"} & set(results.metrics)
    assert any("peft is not installed" in note for note in results.notes)


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        run_here("lora", {"TEACHER_STEPS": 1}, model=str(tmp_path))


def test_a_rank_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    """A model narrower than the largest rank that the lab trains."""
    from llmquiz.llm.model.config import ModelConfig
    from llmquiz.llm.model.decoder import random_decoder

    save_checkpoint(random_decoder(ModelConfig(2048, 8, 1, 1, 1, 8, 8, tie_embeddings=True), seed=0), tmp_path)
    with pytest.raises(AdapterError, match="rank 16 exceeds a layer of 8 by 8"):
        run_here("lora", {"TEACHER_STEPS": 1}, steps=2, model=str(tmp_path))


@pytest.fixture
def adapter(tmp_path: Path) -> tuple[Path, Any]:
    """A file of an adapter whose B is not zero, and the model that it was made on."""
    model = base_model().model
    add_lora(model, LoRAConfig(2, 4.0, ("q_proj", "v_proj")))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in adapter_parameters(model):
            weight.normal_(std=0.05, generator=generator)
    save_adapter(model, tmp_path)
    return tmp_path, model


def test_an_adapter_that_is_given_is_examined(adapter: tuple[Path, Any]) -> None:
    folder, model = adapter
    with without_peers():
        results = run_here("lora", {"RANKS": (1,), "TEACHER_STEPS": 1}, steps=2, rank=1, adapter=str(folder))
    first = results.tables[0]
    layer = model.layers[1].self_attn.v_proj
    update = layer.updates()["default"]
    weight, added = (x.detach().norm().item() for x in (layer.base.weight, 2.0 * update.B @ update.A))

    assert len(first.rows) == 2 * len(model.layers)
    (row,) = [row[1:] for row in first.rows if row[0] == "layers.1.self_attn.v_proj"]
    assert row == pytest.approx((weight, added, added / weight), rel=1e-4)
    assert f"{sum(p.numel() for p in adapter_parameters(model))} parameters" in results.notes[0]
    merged = [claim for claim in results.tested if claim.name == "one-model"]
    assert len(merged) == 2
    assert all(0 < claim.measured < 1e-4 for claim in merged)


def test_an_adapter_of_another_model_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    from llmquiz.llm.model.config import ModelConfig
    from llmquiz.llm.model.decoder import random_decoder

    other = random_decoder(ModelConfig(2048, 16, 1, 1, 1, 16, 16, tie_embeddings=True), seed=0)
    add_lora(other, LoRAConfig(2, 4.0))
    save_adapter(other, tmp_path)
    with pytest.raises(AdapterError, match=r"adapter_model\.safetensors: lacks"):
        run_here("lora", adapter=str(tmp_path))


@pytest.mark.slow
def test_an_adapter_that_is_cut_short_ends_the_run_in_a_line(adapter: tuple[Path, Any]) -> None:
    folder, _ = adapter
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    lab, events = Catalog([(LABS, True)]).find("lora"), []
    ended = run_blocking(lab, {"adapter": str(folder)}, events.append, device="cpu")

    assert ended.outcome is Outcome.FAILED
    assert "adapter_model.safetensors: not a whole safetensors file" in ended.error
    assert "\n" not in ended.error
    results = Results(events)
    assert not results.points
    assert not results.tables


@pytest.mark.slow
def test_a_narrow_format_trains_what_the_wide_one_does(results: Results) -> None:
    with without_peers():
        narrow = run_here("lora", {"RANKS": (1,), "TEACHER_STEPS": 200}, steps=2, rank=1, precision="fp16")
    losses = [[point.y for point in found.points if point.series == "r=1"] for found in (results, narrow)]

    assert narrow.broken <= LEARNED
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.01)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # within peft and transformers
def test_peft_gives_the_same_losses() -> None:
    pytest.importorskip("peft")
    results = run_here("lora", {"TURNS": 2}, steps=6, targets="q and v")

    assert results.metrics["peft_loss_gap"] < 1e-4
    assert results.metrics["speedup_over_peft"] > 0
    assert results.claims["one-model"].measured < 1e-4
    assert [row[0] for row in results.tables[-1].rows] == ["ours", "peft"]


def save_checkpoint(model: object, folder: Path) -> None:
    """A folder that `base_model` reads, with the shipped tokenizer."""
    import json
    import shutil

    from safetensors.torch import save_file

    from llmquiz.llm.base.load import FOLDER

    config = json.loads((FOLDER / "config.json").read_text())
    shape = model.config
    config |= {
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
        "head_dim": shape.head_dim,
        "intermediate_size": shape.intermediate_size,
        "tie_word_embeddings": shape.tie_embeddings,
    }
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(FOLDER / "tokenizer.json", folder)
    weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    save_file({f"model.{name}": weight for name, weight in weights.items()}, folder / "model.safetensors")
