"""A model of the user's own is looked at besides: its numbers are right, and the lab's own stay as they are."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.lab.sdk import LabError  # noqa: E402
from llmquiz.llm.base.guest import evenly, invite  # noqa: E402
from llmquiz.llm.base.load import FOLDER, base_model, num_parameters  # noqa: E402
from llmquiz.llm.errors import ModelError  # noqa: E402

from .running import load_script, run_here  # noqa: E402

pytestmark = pytest.mark.labs

SIZE = num_parameters(FOLDER)
LAYERS = 5


def table_of_guest(lab: str, **params: Any) -> list[dict[str, Any]]:
    """The last table of a tiny run with the shipped model as the user's own."""
    table = run_here(lab, size="tiny", model=str(FOLDER), **params).tables[-1]
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


@pytest.mark.slow
def test_precision_narrows_it() -> None:
    fp32, bf16, fp16 = table_of_guest("precision", steps=20)

    assert fp32["largest error / largest logit"] == 0
    assert 0 < fp16["largest error / largest logit"] < bf16["largest error / largest logit"] < 0.1
    assert bf16["MiB"] == fp32["MiB"] / 2 == pytest.approx(SIZE * 2 / 2**20)
    assert bf16["nats a token"] == pytest.approx(fp32["nats a token"], abs=0.05)


@pytest.mark.slow
def test_norms_looks_at_each_layer() -> None:
    rows = table_of_guest("norms")

    assert [row["layer"] for row in rows] == list(range(1, LAYERS + 1))
    assert all(row["added / stream"] == row["added (rms)"] / row["stream (rms)"] for row in rows)
    assert all(row["gradient norm"] > 0 for row in rows)


def test_activations_counts_units() -> None:
    rows = table_of_guest("activations")

    assert [row["units"] for row in rows] == [512] * LAYERS
    assert all(0 < row["share above zero"] < 1 - row["share never above zero"] for row in rows)


def test_lstm_asks_it_what_was_said_before() -> None:
    rows = table_of_guest("lstm")

    assert [row["distance"] for row in rows] == [4, 8, 16, 32, 64, 128]
    assert all(row["nats, first time"] > row["nats, second time"] > 0 for row in rows[:3])


@pytest.mark.slow
def test_stability_bounds_its_first_update() -> None:
    rows = table_of_guest("stability", steps=20, adam_lr=1e-3, sgd_lr=0.1)
    adam = {row["arm"]: row for row in rows if row["optimizer"] == "adam"}
    sgd = {row["arm"]: row for row in rows if row["optimizer"] == "sgd"}

    assert adam["neither"]["per weight (rms)"] == pytest.approx(1e-3, rel=0.1)
    assert adam["clipping"]["per weight (rms)"] == pytest.approx(adam["neither"]["per weight (rms)"], rel=5e-2)
    assert adam["warm-up"]["per weight (rms)"] < 0.5e-3
    assert sgd["clipping"]["first update"] <= 0.1 * 0.25 * 1.001


def test_scaling_law_counts_its_flops() -> None:
    rows = {row["what"]: row["how much"] for row in table_of_guest("scaling-law")}

    assert rows["parameters N"] == SIZE
    assert 0.98 < rows["counted / 2 N"] < 1.1  # a tied embedding is the head; norms have none
    assert rows["FLOPs of that training, 6 N D"] == 120 * SIZE**2


@pytest.mark.slow
def test_pretraining_goes_on_from_its_weights() -> None:
    before, after = table_of_guest("pretrain", steps=2)

    assert before["nats a token, unseen"] < 3 < math.log(2048)
    assert after["nats a token, unseen"] < before["nats a token, unseen"]


def test_a_model_without_experts_is_refused_by_the_moe_lab() -> None:
    with pytest.raises(LabError, match="has no experts; name a mixture"):
        run_here("moe", size="tiny", model=str(FOLDER))


@pytest.mark.slow
def test_the_load_of_a_mixture_is_that_of_its_routers(tmp_path: Path) -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=2048,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=6,
        num_experts_per_tok=2,
    )
    MixtralForCausalLM(config).save_pretrained(tmp_path)
    shutil.copy(FOLDER / "tokenizer.json", tmp_path)
    table = run_here("moe", size="tiny", model=str(tmp_path), steps=20).tables[-1]

    assert [row[:2] for row in table.rows] == [(1, 6), (2, 6)]
    assert all(1 <= row[2] <= 3 and row[4] == 0 for row in table.rows)  # at most all tokens: E / K times the mean


def test_a_lab_is_refused_at_once_if_its_guest_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    for lab in ("precision", "norms", "activations", "lstm", "stability", "scaling-law", "pretrain"):
        with pytest.raises(ModelError, match=r"no \*\.safetensors here"):
            run_here(lab, size="tiny", model=str(tmp_path))


def test_rows_are_the_corpus_in_the_models_tokens() -> None:
    guest = invite(str(FOLDER), rows=3, length=20, seed=4, device="cpu")

    assert guest.texts.shape == (3, 21)
    assert base_model().tokenizer.decode(guest.texts[0].tolist())
    assert guest.num_parameters() == SIZE


@pytest.mark.parametrize(("count", "shown"), [(1, 1), (12, 12), (13, 12), (80, 12)])
def test_layers_are_shown_from_the_first_to_the_last(count: int, shown: int) -> None:
    chosen = evenly(count)

    assert len(chosen) == shown
    assert (chosen[0], chosen[-1]) == (0, count - 1)


def test_a_script_is_loaded_with_its_modules() -> None:
    assert load_script("norms").report_guest.__module__ == "llmquiz_lab_norms.guest"
