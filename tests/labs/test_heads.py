"""The heads lab: its numbers follow from the shapes, and from each other."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from llmquiz.lab.sdk import LabError  # noqa: E402

from .running import run_here  # noqa: E402

pytestmark = pytest.mark.labs

SMALL = {"TRAIN_WINDOWS": 1, "TEST_WINDOWS": 2, "LENGTH": 48, "TESTS": 1, "TURNS": 1}
TRAINED, TIMED = "retraining-heals", "fewer-bytes-faster"


def test_its_numbers_agree_with_each_other() -> None:
    results = run_here("heads", SMALL, context=256, heads=8, head_dim=32, steps=1)
    metrics = results.metrics
    layers, sharing = results.tables

    assert results.broken <= {TRAINED, TIMED}
    assert [row[1] for row in layers.rows] == [8, 2, 1, None]
    assert [row[2] for row in layers.rows] == [8 * 2 * 32 * 4, 2 * 2 * 32 * 4, 2 * 32 * 4, (4 * 32 + 16) * 4]
    assert metrics["mha_over_mla"] == 2 * 8 * 32 / (4 * 32 + 16)
    assert metrics["mla_operations"] == (4 * 32 + 16 + 4 * 32) / (2 * 32)
    losses = {row[:2]: row[2:] for row in sharing.rows}
    assert losses["as trained", 4] == (metrics["loss_before"], None)
    assert losses["averaged", 2] == (metrics["loss_averaged"], metrics["loss_retrained"])
    added = metrics["loss_averaged"] - metrics["loss_before"]
    assert metrics["recovered"] == pytest.approx((metrics["loss_averaged"] - metrics["loss_retrained"]) / added)
    curves = {name: [p.y for p in results.points if p.series == f"{name} of 4 K/V heads"] for name in (1, 2)}
    assert curves[2] == [metrics["loss_averaged"], metrics["loss_retrained"]]
    assert curves[1] == list(losses["averaged", 1])


def test_a_model_that_cannot_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from llmquiz.llm.base import load
    from llmquiz.llm.model.config import ModelConfig
    from llmquiz.llm.model.decoder import random_decoder

    whole = load.base_model()
    single = random_decoder(ModelConfig(whole.tokenizer.vocab_size, 32, 1, 2, 1, 16, 32), 0)
    monkeypatch.setattr(load, "base_model", lambda *_, **__: load.LanguageModel(single, whole.tokenizer, "single"))
    with pytest.raises(LabError, match="single has no K/V heads to average"):
        run_here("heads", SMALL, context=128, heads=4, head_dim=16)
    with pytest.raises(LabError, match="6 heads of 16: both must be multiples of 4"):
        run_here("heads", SMALL, heads=6, head_dim=16)


def test_biases_are_shared_as_weights_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model with a K/V head for every query head: what is written out in order is its merged form."""
    from llmquiz.llm.base import load
    from llmquiz.llm.model.config import ModelConfig
    from llmquiz.llm.model.decoder import random_decoder

    whole = load.base_model()
    biased = random_decoder(ModelConfig(whole.tokenizer.vocab_size, 32, 1, 4, 4, 8, 32, qkv_bias=True), 0)
    for name, parameter in biased.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    monkeypatch.setattr(load, "base_model", lambda *_, **__: load.LanguageModel(biased, whole.tokenizer, "biased"))
    results = run_here("heads", SMALL | {"compare_layers": lambda params, report: None}, steps=1)

    losses = {row[:2]: row[2:] for row in results.tables[0].rows}
    assert losses["written out, 0 0 1 1", 4][0] == pytest.approx(losses["averaged", 2][1], rel=1e-5)
    assert losses["written out, 0 1 0 1: the wrong order", 4][0] != losses["averaged", 2][1]
    assert losses["averaged", 2][0] != losses["as trained", 4][0] != losses["averaged", 1][0]
