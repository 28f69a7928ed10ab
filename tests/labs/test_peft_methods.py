"""The lab of tuning methods: its numbers must agree with each other and with peft's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from llmquiz.lab.sdk import LabError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402

from .running import run_here  # noqa: E402

pytestmark = pytest.mark.labs

QUICK = {"BATCH": 1, "LENGTH": 8, "TEST_ROWS": 2, "PEFT": False}
LEARNED = {"new-features-win", "full-goes-furthest"}  # judged at the default size
SHIPPED = ModelConfig(2048, 256, 5, 8, 4, 32, 512, tie_embeddings=True)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_its_numbers_agree_with_each_other() -> None:
    results = run_here("peft-methods", QUICK, steps=2, rank=2, width=4, virtual_tokens=3)
    metrics, (table,) = results.metrics, results.tables
    rows = {row[0]: row for row in table.rows}

    assert results.broken <= LEARNED | {"file"}  # of two virtual tokens, the file is half header
    assert metrics["lora_parameters"] == rows["LoRA"][1] == 5 * 2 * (2 * 512 + 2 * 384 + 3 * 768)
    assert metrics["ia3_parameters"] == 5 * (2 * 128 + 512)
    assert metrics["prefix_parameters"] == 2 * 5 * 128 * 3
    assert metrics["prompt_parameters"] == 3 * 256
    assert metrics["bottleneck_parameters"] == 2 * 5 * (2 * 4 * 256 + 4 + 256)
    assert metrics["full_state_bytes"] == 8 * SHIPPED.num_parameters()
    assert metrics["lora_state_bytes"] == 8 * metrics["lora_parameters"] == rows["LoRA"][3] * 2**20
    assert rows["LoRA"][5] == metrics["loss"]
    assert metrics["light_loss"] == min(rows[name][5] for name in ("(IA)3", "prefix", "prompt"))
    assert {point.series for point in results.points} == set(rows)
    assert any("its counts were left out" in note for note in results.notes)


@pytest.mark.slow
def test_peft_counts_the_same() -> None:
    pytest.importorskip("peft")
    results = run_here("peft-methods", QUICK | {"PEFT": True}, steps=2, rank=2, virtual_tokens=3)

    assert "parameters" not in results.broken
    for name, ours, theirs, *_ in results.tables[0].rows:
        assert theirs == (None if name in ("bottleneck", "full") else ours)


@pytest.mark.slow
def test_a_model_of_another_family_is_refused(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = pytest.importorskip("tokenizers").Tokenizer.from_file(
        str(Path(__file__).parents[2] / "llmquiz" / "llm" / "base" / "tokenizer.json")
    )
    config = transformers.GPT2Config(vocab_size=2048, n_positions=64, n_embd=32, n_layer=1, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    tokenizer.save(str(tmp_path / "tokenizer.json"))

    with pytest.raises(LabError, match="built for the Llama family"):
        run_here("peft-methods", QUICK, model=str(tmp_path), steps=2)
