"""The same weights give the same logits as transformers: at prefill, and at every step with a cache.

Weights and biases are scaled up so that logits have a standard deviation near one: an absolute 1e-5 would prove little
on logits of 1e-3. The tokens are random and forced on both sides; greedy tokens of random weights agree too easily to
be the only test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from llmquiz.llm.cache.growing import GrowingCache  # noqa: E402
from llmquiz.llm.cache.static import StaticCache  # noqa: E402
from llmquiz.llm.decode.generate import generate, store_transposed  # noqa: E402
from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import Decoder, random_decoder  # noqa: E402
from llmquiz.llm.model.load import load_checkpoint, read_config  # noqa: E402
from llmquiz.llm.model.reference import from_transformers, load_with_transformers, to_transformers  # noqa: E402

pytestmark = pytest.mark.labs

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}  # fp32
BATCH, PROMPT, TOKENS = 2, 7, 40
SHAPE = {
    "vocab_size": 128,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 128,
    "initializer_range": 0.1,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-mha": ("Llama", {"num_key_value_heads": 4}),
    "llama-gqa": ("Llama", {"num_key_value_heads": 2}),
    "llama-mqa": ("Llama", {"num_key_value_heads": 1}),
    "llama-biases": ("Llama", {"num_key_value_heads": 2, "attention_bias": True, "mlp_bias": True}),
    "llama-3.1-rope": ("Llama", {"num_key_value_heads": 2, "rope_parameters": LLAMA3_ROPE}),
    "llama-linear-rope": (
        "Llama",
        {"num_key_value_heads": 2, "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
    ),
    "qwen2-tied": ("Qwen2", {"num_key_value_heads": 2, "tie_word_embeddings": True}),
    "qwen3-wide-heads": ("Qwen3", {"num_key_value_heads": 2, "head_dim": 32}),
}


@pytest.fixture(scope="module", params=MODELS)
def twins(request: pytest.FixtureRequest) -> tuple[Any, Decoder]:
    family, extra = MODELS[request.param]
    config = getattr(transformers, f"{family}Config")(**SHAPE, **extra)
    torch.manual_seed(0)
    theirs = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    for name, parameter in theirs.named_parameters():
        if parameter.dim() == 1:  # ones and zeros would hide a norm or a bias that is never applied
            torch.nn.init.normal_(parameter, 1.0 if "norm" in name else 0.0, 0.3)
    return theirs, from_transformers(theirs)


@pytest.fixture(scope="module")
def tokens() -> Any:
    return torch.randint(0, SHAPE["vocab_size"], (BATCH, TOKENS), generator=torch.Generator().manual_seed(1))


def caches(model: Decoder) -> list[Any]:
    return [GrowingCache(model.config), StaticCache(model.config, TOKENS, batch=BATCH)]


@torch.inference_mode()
def test_prefill_gives_the_same_logits(twins: tuple[Any, Decoder], tokens: Any) -> None:
    theirs, ours = twins
    expected = theirs(tokens).logits

    assert expected.std() > 0.3
    torch.testing.assert_close(ours(tokens), expected, **TOLERANCE)
    torch.testing.assert_close(ours(tokens, last_only=True), expected[:, -1:], **TOLERANCE)


@torch.inference_mode()
def test_every_cached_step_gives_the_same_logits(twins: tuple[Any, Decoder], tokens: Any) -> None:
    theirs, ours = twins
    uncached = ours(tokens)
    cache = transformers.DynamicCache()
    growing, static = caches(ours)
    fed = [tokens[:, :PROMPT], *tokens[:, PROMPT:].split(1, dim=1)]  # T, 1, 1, 1, ...
    end = 0
    for part in fed:
        end += part.size(1)
        expected = theirs(part, past_key_values=cache).logits[:, -1]
        grown, kept = ours(part, growing)[:, -1], ours(part, static)[:, -1]

        torch.testing.assert_close(grown, expected, **TOLERANCE)
        torch.testing.assert_close(grown, uncached[:, end - 1], **TOLERANCE)
        torch.testing.assert_close(kept, grown, rtol=1e-6, atol=1e-6)
        assert growing.length == static.length == end


@torch.inference_mode()
def test_a_prompt_may_come_in_pieces(twins: tuple[Any, Decoder], tokens: Any) -> None:
    _, ours = twins
    for cache in caches(ours):
        logits = torch.cat([ours(part, cache) for part in tokens.split([5, 1, 20, 14], dim=1)], dim=1)
        torch.testing.assert_close(logits, ours(tokens), **TOLERANCE)


def test_greedy_tokens_are_those_of_transformers(twins: tuple[Any, Decoder], tokens: Any) -> None:
    theirs, ours = twins
    prompt, new = tokens[:, :PROMPT], TOKENS - PROMPT
    eos = ours.config.eos_token_ids
    settings = transformers.GenerationConfig(
        max_new_tokens=new, do_sample=False, eos_token_id=list(eos) or None, pad_token_id=eos[0] if eos else 0
    )
    expected = theirs.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=settings)[:, PROMPT:]

    for cache in (None, *caches(ours)):
        assert torch.equal(generate(ours, prompt, new, cache=cache, eos=eos).tokens, expected)


def test_the_config_counts_the_parameters(twins: tuple[Any, Decoder]) -> None:
    theirs, ours = twins

    assert ours.config.num_parameters() == sum(parameter.numel() for parameter in theirs.parameters())


@torch.inference_mode()
def test_a_saved_checkpoint_is_read_without_transformers(
    twins: tuple[Any, Decoder], tokens: Any, tmp_path: Path
) -> None:
    theirs, ours = twins
    theirs.save_pretrained(tmp_path)

    assert read_config(tmp_path) == ours.config
    loaded = load_checkpoint(tmp_path, dtype=torch.float32, device="cpu")
    assert torch.equal(loaded(tokens), ours(tokens))
    again = load_with_transformers(tmp_path, dtype=torch.float32, device="cpu")
    torch.testing.assert_close(again(tokens).logits, loaded(tokens), **TOLERANCE)


@torch.inference_mode()
def test_our_weights_go_to_transformers_and_back(tokens: Any) -> None:
    config = ModelConfig.from_transformers(transformers.LlamaConfig(**SHAPE, rope_theta=500.0))
    ours = random_decoder(config, seed=3)
    theirs = to_transformers(ours)

    torch.testing.assert_close(theirs(tokens).logits, ours(tokens), **TOLERANCE)
    assert torch.equal(from_transformers(theirs)(tokens), ours(tokens))


@torch.inference_mode()
def test_transposed_weights_give_the_same_logits_and_keep_their_ties(twins: tuple[Any, Decoder], tokens: Any) -> None:
    theirs, _ = twins
    ours = from_transformers(theirs)
    expected, size = ours(tokens), sum(parameter.numel() for parameter in ours.parameters())
    store_transposed(ours)

    torch.testing.assert_close(ours(tokens), expected, **TOLERANCE)
    assert sum(parameter.numel() for parameter in ours.parameters()) == size
    assert ours.layers[0].mlp.up_proj.weight.stride(0) == 1


def test_only_a_plain_llama_goes_to_transformers() -> None:
    config = transformers.Qwen3Config(**SHAPE, num_key_value_heads=2)
    ours = from_transformers(transformers.Qwen3ForCausalLM(config))

    with pytest.raises(ModelError, match="no plain Llama"):
        to_transformers(ours)
