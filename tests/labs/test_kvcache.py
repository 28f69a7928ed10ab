"""The KV cache lab: through the real runner for its claims, in this process for what it does in odd circumstances."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.lab.events import Outcome, TableReported  # noqa: E402
from llmquiz.lab.sdk import LabError  # noqa: E402
from llmquiz.llm.model import reference  # noqa: E402

from .running import Results, run_here, run_in_child  # noqa: E402

pytestmark = pytest.mark.labs

SMALL = {"new_tokens": 32, "size": "tiny"}
TIMED = {"flat-decode", "decode-memory-bound", "prefill-reuses"}  # claims about time: judged by runs of default size
EXACT = {"same-logits", "bytes-formula", "quadratic-recompute", "quadratic-copies"}
KINDS = {"ring-bounded", "quantized-bytes", "paged-waste"}
HEADS_2_DIM_32_LAYERS_4_FP32 = 2 * 4 * 2 * 32 * 4  # bytes a token of the tiny model


@pytest.mark.slow
def test_its_numbers_agree_with_each_other() -> None:
    outcome, results = run_in_child("kvcache", **SMALL)
    metrics = results.metrics

    assert outcome in (Outcome.OK, Outcome.BROKEN)
    assert results.broken <= TIMED
    assert set(results.claims) == TIMED | EXACT | KINDS
    assert metrics["cache_bytes_per_token"] == HEADS_2_DIM_32_LAYERS_4_FP32
    assert metrics["cache_bytes"] == 32 * HEADS_2_DIM_32_LAYERS_4_FP32
    assert metrics["copied_bytes"] == 32 * 31 // 2 * HEADS_2_DIM_32_LAYERS_4_FP32
    assert metrics["positions_recomputed"] == 32 * 33 // 2
    assert metrics["speedup_at_longest"] == pytest.approx(metrics["recompute_latency"] / metrics["decode_latency"])
    assert 0 < metrics["max_logit_error"] < 1e-5
    assert 0 < metrics["bandwidth_fraction"] < 1.5
    assert metrics["decode_exponent"] == results.claims["flat-decode"].measured


def test_its_tables_agree_with_its_metrics_and_formulas() -> None:
    results = run_here("kvcache", new_tokens=48, size="tiny")
    metrics, rows = results.metrics, {row[0]: row for row in table(results, "caches at").rows}
    modes = ["no cache", "growing", "static", *(["transformers"] if reference.AVAILABLE else [])]
    assert [row[0] for row in table(results, "48 tokens").rows] == modes
    for mode in (*modes, "paged", "ring", "int4"):
        assert [point.x for point in results.points if point.series == mode] == [24, 48]

    assert metrics["ring_bytes"] == 12 * HEADS_2_DIM_32_LAYERS_4_FP32
    assert rows["ring"][1] == 12
    assert rows["paged"][2] == rows["static"][2] == rows["growing"][2] == metrics["cache_bytes"] / 2**20
    assert metrics["int4_ratio"] == 48 * 32 / (32 * (4 + 32 / 32) + 16 * 32)
    assert 1e-3 < metrics["int4_logit_error"] < 1
    assert 6 < metrics["paged_waste"] < 9
    assert metrics["paged_utilization"] == table(results, "512 sequences").rows[1][3]

    decode, *prefills = table(results, "roofline").rows
    assert metrics["ridge"] == pytest.approx(metrics["matmul_peak"] / metrics["memory_bandwidth"])
    assert 0.4 < metrics["decode_intensity"] < 0.6  # two FLOPs for four bytes
    assert [row[0] for row in prefills] == ["prefill 3", "prefill 12", "prefill 48"]
    assert [row[1] for row in prefills] == sorted(row[1] for row in prefills)
    assert decode[4] == pytest.approx(metrics["bandwidth_fraction"], rel=0.01)
    assert metrics["prefill_rate_ratio"] == pytest.approx(prefills[-1][2] / decode[2])


def table(results: Results, name: str) -> TableReported:
    return next(table for table in results.tables if table.name.startswith(name))


@pytest.mark.slow
def test_what_takes_too_long_is_cut_and_said() -> None:
    results = run_here(
        "kvcache", {"STEPWISE": 64, "GENERATION_SECONDS": 0.01, "RACE_SECONDS": 0.01}, new_tokens=192, size="tiny"
    )

    assert results.broken <= TIMED
    assert results.metrics["cache_bytes"] == 192 * HEADS_2_DIM_32_LAYERS_4_FP32
    assert any("at every step up to 64 tokens" in note for note in results.notes)
    assert any("192 tokens would take too long here" in note for note in results.notes)
    assert not {"positions_recomputed", "copied_bytes", "speedup_total"} & set(results.metrics)


def test_a_wrong_position_would_break_the_first_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    """The classic fault: every new token is turned as if it stood at position 0."""
    from llmquiz.llm.model.positions import RotaryEmbedding

    right = RotaryEmbedding.forward
    monkeypatch.setattr(RotaryEmbedding, "forward", lambda self, start, x, positions=None: right(self, 0, x))
    results = run_here("kvcache", **SMALL)

    assert "same-logits" in results.broken
    assert results.metrics["max_logit_error"] > 0.01


@pytest.mark.slow
def test_without_transformers_the_rest_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "AVAILABLE", False)
    results = run_here("kvcache", **SMALL)

    assert results.broken <= TIMED
    assert "speedup_over_transformers" not in results.metrics
    assert [row[0] for row in results.tables[-1].rows] == ["no cache", "growing", "static"]
    assert "transformers is not installed; it was left out of the comparison" in results.notes


def test_a_checkpoint_of_the_user_is_measured(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.Qwen3Config(
        vocab_size=100,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        intermediate_size=96,
        max_position_embeddings=300,
        eos_token_id=list(range(50)),
    )
    transformers.Qwen3ForCausalLM(config).save_pretrained(tmp_path)
    results = run_here("kvcache", new_tokens=20, model=str(tmp_path))

    assert results.broken <= TIMED
    assert results.metrics["cache_bytes_per_token"] == 2 * 2 * 2 * 32 * 4
    with pytest.raises(LabError, match="has 300 positions; use no more --new-tokens"):
        run_here("kvcache", new_tokens=301, model=str(tmp_path))


@pytest.mark.parametrize(
    ("change", "problem"),
    [({"model_type": "gpt2"}, "'gpt2' is not one of llama"), ({"hidden_size": 2**20}, r"needs about \d+\.\d GiB")],
)
def test_a_model_that_cannot_work_is_refused_before_it_is_loaded(
    tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    config = {
        "model_type": "llama",
        "vocab_size": 100,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 96,
    }
    (tmp_path / "config.json").write_text(json.dumps(config | change))

    with pytest.raises(LabError, match=problem):
        run_here("kvcache", model=str(tmp_path))
