"""Stretched RoPE: what each method keeps and slows, and the same frequencies and logits as transformers."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from dataclasses import replace  # noqa: E402

from llmquiz.llm.cache.growing import GrowingCache  # noqa: E402
from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import random_decoder  # noqa: E402
from llmquiz.llm.model.positions import RotaryEmbedding, rope_frequencies  # noqa: E402
from llmquiz.llm.model.rope_scaling import RopeScaling, read_scaling, yarn  # noqa: E402

pytestmark = pytest.mark.labs

CONFIG = ModelConfig(64, 64, 2, 4, 2, 32, 96, max_position=4096, rope_theta=10_000.0)
TRAINED, FACTOR = 512, 8.0


def slowed_by(scaling: RopeScaling, length: int = 0) -> Any:  # [D/2]
    return rope_frequencies(CONFIG) / rope_frequencies(replace(CONFIG, rope_scaling=scaling), length)


def test_interpolation_slows_all_pairs_alike() -> None:
    torch.testing.assert_close(slowed_by(RopeScaling("linear", FACTOR)), torch.full((16,), FACTOR))


def test_ntk_is_a_larger_theta_and_keeps_the_fastest_pair() -> None:
    slower = slowed_by(RopeScaling("ntk", FACTOR))
    theta = CONFIG.rope_theta * FACTOR ** (32 / 30)

    assert float(slower[0]) == 1
    assert float(slower[-1]) == pytest.approx(FACTOR)
    assert (slower.diff() > 0).all()
    torch.testing.assert_close(
        rope_frequencies(replace(CONFIG, rope_scaling=RopeScaling("ntk", FACTOR))),
        rope_frequencies(replace(CONFIG, rope_theta=theta)),
    )


@pytest.mark.parametrize("scaling", [yarn(FACTOR, TRAINED), RopeScaling("llama3", FACTOR, 1.0, 32.0, TRAINED)])
def test_ramps_keep_what_turned_often_and_interpolate_what_never_turned(scaling: RopeScaling) -> None:
    turns = TRAINED * rope_frequencies(CONFIG) / (2 * math.pi)
    slower = slowed_by(scaling)

    assert (slower[turns > 40] == 1).all()
    torch.testing.assert_close(slower[turns < 0.5], torch.full_like(slower[turns < 0.5], FACTOR))
    assert (slower.diff() >= -1e-6).all()


def test_dynamic_leaves_short_texts_alone_and_grows_with_long_ones() -> None:
    dynamic = RopeScaling("dynamic", 2.0, original_max_position=TRAINED)

    assert (slowed_by(dynamic, TRAINED) == 1).all()
    torch.testing.assert_close(slowed_by(dynamic, 4 * TRAINED), slowed_by(RopeScaling("ntk", 2.0 * 4 - 1)))


def test_yarn_sharpens_scores_by_the_square_of_its_factor() -> None:
    scaling, x = yarn(FACTOR, TRAINED), torch.zeros(1, 5, 1)
    plain = RotaryEmbedding(replace(CONFIG, rope_scaling=replace(scaling, attention_factor=1.0)))(0, x)
    sharp = RotaryEmbedding(replace(CONFIG, rope_scaling=scaling))(0, x)

    assert scaling.attention_factor == pytest.approx(0.1 * math.log(8) + 1)
    for ours, theirs in zip(sharp, plain, strict=True):
        torch.testing.assert_close(ours, theirs * scaling.attention_factor)


@torch.inference_mode()
def test_a_dynamic_model_forgets_the_stretch_of_a_longer_text() -> None:
    dynamic = replace(CONFIG, rope_scaling=RopeScaling("dynamic", 2.0, original_max_position=16), max_position=64)
    model, plain = random_decoder(dynamic, 0), random_decoder(CONFIG, 0)
    tokens = torch.randint(64, (1, 40), generator=torch.Generator().manual_seed(0))
    long = model(tokens)

    torch.testing.assert_close(model(tokens[:, :16]), plain(tokens[:, :16]))
    assert not torch.allclose(long, plain(tokens), atol=1e-2)
    assert torch.equal(model(tokens), long)


@pytest.mark.parametrize(
    ("rope", "problem"),
    [
        ({"rope_type": "longrope", "factor": 4.0}, "'longrope' is not one of"),
        ({"rope_type": "yarn", "factor": 4.0}, "'yarn' lacks a number"),
        ({"rope_type": "linear"}, "'linear' lacks a number"),
        ({"rope_type": "linear", "factor": "two"}, "'linear' lacks a number"),
        ({"rope_type": "linear", "factor": 0.5}, "factor 0.5 is below 1"),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8, "truncate": False}, "truncate"),
    ],
)
def test_what_cannot_be_read_is_refused(rope: dict[str, Any], problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        read_scaling(rope, 4096)


def test_dynamic_reads_further_than_its_config_says_and_yarn_as_far() -> None:
    assert read_scaling({"type": "dynamic", "factor": 2.0}, 4096)[1] == 8192
    assert read_scaling({"type": "yarn", "original_max_position_embeddings": 1024}, 4096) == (yarn(4.0, 1024), 4096)


THEIRS: dict[str, dict[str, Any]] = {
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 4.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 32},
    "yarn-betas": {"factor": 8.0, "original_max_position_embeddings": 64, "beta_fast": 16.0, "beta_slow": 2.0},
    "yarn-deepseek": {"factor": 40.0, "original_max_position_embeddings": 64, "mscale": 0.7, "mscale_all_dim": 1.0},
    "yarn-attention": {"factor": 8.0, "original_max_position_embeddings": 64, "attention_factor": 1.5},
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
}


@pytest.fixture(params=THEIRS)
def their_config(request: pytest.FixtureRequest) -> Any:
    transformers = pytest.importorskip("transformers")
    kind = request.param.split("-")[0]
    return transformers.LlamaConfig(
        vocab_size=128,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        intermediate_size=96,
        max_position_embeddings=64,
        initializer_range=0.1,
        rope_parameters={"rope_type": kind, "rope_theta": 1e4, **THEIRS[request.param]},
    )


@pytest.mark.slow
@pytest.mark.parametrize("length", [40, 64, 200])
def test_frequencies_are_those_of_transformers(their_config: Any, length: int) -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    ours = ModelConfig.from_transformers(their_config)
    assert ours.rope_scaling is not None
    frequencies, attention = ROPE_INIT_FUNCTIONS[ours.rope_scaling.kind](their_config, "cpu", seq_len=length)

    torch.testing.assert_close(rope_frequencies(ours, length), frequencies, rtol=2e-6, atol=0)
    assert ours.rope_scaling.attention_factor == pytest.approx(attention)


@pytest.mark.slow
@torch.inference_mode()
def test_logits_are_those_of_transformers(their_config: Any) -> None:
    """At a short text, at one past the trained length, and at each step with a cache that crosses it."""
    import transformers

    from llmquiz.llm.model.reference import from_transformers

    torch.manual_seed(0)
    theirs = transformers.LlamaForCausalLM(their_config).eval()
    ours = from_transformers(theirs)
    reach = min(ours.config.max_position, 96)
    tokens = torch.randint(128, (2, reach), generator=torch.Generator().manual_seed(1))
    for length in (reach, 20):  # the short text last: transformers' dynamic stretch is else that of the longest one yet
        torch.testing.assert_close(ours(tokens[:, :length]), theirs(tokens[:, :length]).logits, rtol=1e-5, atol=1e-5)
    remembered, cache = transformers.DynamicCache(), GrowingCache(ours.config)
    for part in (tokens[:, : reach - 8], *tokens[:, reach - 8 :].split(1, dim=1)):
        expected = theirs(part, past_key_values=remembered).logits
        torch.testing.assert_close(ours(part, cache), expected, rtol=1e-5, atol=1e-5)
