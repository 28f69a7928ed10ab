"""The decoder and its parts where transformers is no witness: limits, errors, seeds, and what the docstrings
promise."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.cache.growing import GrowingCache  # noqa: E402
from llmquiz.llm.cache.static import StaticCache  # noqa: E402
from llmquiz.llm.decode.generate import generate  # noqa: E402
from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import random_decoder  # noqa: E402
from llmquiz.llm.model.load import load_checkpoint, read_config  # noqa: E402
from llmquiz.llm.model.norms import RMSNorm  # noqa: E402
from llmquiz.llm.model.positions import RotaryEmbedding, rotate  # noqa: E402

pytestmark = pytest.mark.labs

CONFIG = ModelConfig(64, 32, 2, 4, 2, 8, 48, max_position=40)
QWEN = {
    "model_type": "qwen2",
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "rope_theta": 1e6,
    "eos_token_id": [7, 9],
}


def prompt(length: int = 3, batch: int = 1) -> Any:
    return torch.arange(1, batch * length + 1).view(batch, length)


def test_rms_norm_is_torchs() -> None:
    norm = RMSNorm(16, eps=1e-6)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(3, 16)

    torch.testing.assert_close(norm(x), torch.nn.functional.rms_norm(x, (16,), norm.weight, 1e-6))
    squares_overflow = norm(torch.full((16,), 300.0).half())  # in fp16 they would be inf, and the result zero
    torch.testing.assert_close(squares_overflow, norm.weight, rtol=1e-3, atol=1e-3)


def test_rope_scores_depend_on_the_distance_alone() -> None:
    rotary = RotaryEmbedding(CONFIG)
    q, k = torch.randn(2, 1, 1, 1, CONFIG.head_dim)

    def score(m: int, n: int) -> float:
        x = torch.empty(1, 1, 32)
        return float((rotate(q, *rotary(m, x)) * rotate(k, *rotary(n, x))).sum())

    assert score(9, 4) == pytest.approx(score(505, 500), abs=1e-4)
    assert abs(score(9, 4) - score(9, 8)) > 1e-3


def test_a_seed_is_a_model() -> None:
    one, same, other = (random_decoder(CONFIG, seed)(prompt()) for seed in (1, 1, 2))

    assert torch.equal(one, same)
    assert not torch.allclose(one, other)
    assert one.std() > 0.3


def test_a_model_that_decoded_can_still_be_trained() -> None:
    model = random_decoder(CONFIG, seed=0)
    generate(model, prompt(), 3)

    model(prompt()).sum().backward()
    assert model.embed_tokens.weight.grad is not None


def test_positions_beyond_the_model_are_refused() -> None:
    model = random_decoder(CONFIG, seed=0)
    with pytest.raises(ModelError, match=r"0 \+ 41 tokens exceed the model's 40 positions"):
        model(torch.zeros(1, 41, dtype=torch.long))


def test_generation_stops_when_every_sequence_ended() -> None:
    model = random_decoder(CONFIG, seed=0)
    free = generate(model, prompt(batch=2), 20).tokens
    eos = [int(free[0, 3]), int(free[1, 6])]
    firsts = [next(i for i, token in enumerate(row.tolist()) if token in eos) for row in free]
    stopped = generate(model, prompt(batch=2), 20, cache=StaticCache(CONFIG, 23, batch=2), eos=eos).tokens

    assert stopped.size(1) == max(firsts) + 1
    for row, unstopped, first in zip(stopped, free, firsts, strict=True):
        assert torch.equal(row[: first + 1], unstopped[: first + 1])
        assert (row[first:] == row[first]).all()


def test_generation_times_its_two_phases() -> None:
    made = generate(random_decoder(CONFIG, seed=0), prompt(), 10)

    assert made.tokens.shape == (1, 10)
    assert made.prefill_seconds > 0
    assert made.decode_seconds > 0


def test_a_used_cache_is_refused() -> None:
    model, cache = random_decoder(CONFIG, seed=0), StaticCache(CONFIG, 30)
    generate(model, prompt(), 5, cache=cache)

    with pytest.raises(ModelError, match="already holds 7 tokens; reset it"):
        generate(model, prompt(), 5, cache=cache)


def test_a_config_json_is_read_with_its_familys_habits() -> None:
    config = ModelConfig.from_transformers(QWEN)

    assert (config.qkv_bias, config.output_bias, config.head_dim) == (True, False, 8)
    assert (config.rope_theta, config.eos_token_ids) == (1e6, (7, 9))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"model_type": "gpt2"}, "'gpt2' is not one of llama"),
        ({"hidden_act": "gelu"}, "'gelu' is not 'silu'"),
        ({"use_sliding_window": True, "sliding_window": 128, "max_window_layers": 1}, "are mixed"),
        ({"rope_scaling": {"type": "longrope", "factor": 4.0}}, "'longrope' is not one of"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "'yarn' lacks a number"),
        ({"num_key_value_heads": 3}, "cannot share 3"),
    ],
)
def test_other_architectures_are_refused_by_name(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        ModelConfig.from_transformers(QWEN | change)


def test_a_config_without_its_sizes_is_refused() -> None:
    with pytest.raises(ModelError, match="vocab_size, hidden_size"):
        ModelConfig.from_transformers({"model_type": "llama"})


def test_a_broken_checkpoint_says_what_is_wrong(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    options = {"dtype": torch.float32, "device": "cpu"}
    with pytest.raises(ModelError, match=r"config\.json: not readable"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(QWEN))
    with pytest.raises(ModelError, match=r"no \*\.safetensors here"):
        load_checkpoint(tmp_path, **options)
    safetensors.save_file({"model.embed_tokens.weight": torch.zeros(64, 32)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"do not fit the config: .*Missing key"):
        load_checkpoint(tmp_path, **options)


@pytest.mark.parametrize("tied", [False, True])
def test_a_token_reads_every_weight_but_an_embedding_apart(tied: bool) -> None:
    config = replace(CONFIG, tie_embeddings=tied)
    embedding = config.vocab_size * config.hidden_size
    others = config.num_parameters() - embedding * (1 if tied else 2)
    assert random_decoder(config, seed=0).weight_bytes_read() == 4 * (others + embedding)


@torch.inference_mode()
def test_a_sliding_window_is_the_same_with_a_cache() -> None:
    config = replace(CONFIG, sliding_window=4)
    model, text = random_decoder(config, seed=0), prompt(12)
    whole = model(text)

    cache = GrowingCache(config)
    stepped = torch.cat([model(part, cache) for part in text.split([3, 6, 1, 1, 1], dim=1)], dim=1)
    assert torch.allclose(stepped, whole, atol=1e-5)

    other = text.clone()
    other[0, 0] = (other[0, 0] + 1) % config.vocab_size
    changed = (model(other) - whole).abs().amax(-1)[0]
    reach = config.num_layers * (4 - 1)  # a layer passes a token on by window - 1 positions
    assert (changed[: reach + 1] > 0).all()
    assert (changed[reach + 1 :] == 0).all()
