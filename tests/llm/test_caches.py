"""Caches by themselves: their bytes, their limits, and what a fault in the model would do to them."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.cache.base import Cache  # noqa: E402
from llmquiz.llm.cache.growing import GrowingCache  # noqa: E402
from llmquiz.llm.cache.static import StaticCache  # noqa: E402
from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import random_decoder  # noqa: E402

pytestmark = pytest.mark.labs

CAPACITY = 24


def shape(num_kv_heads: int = 2) -> ModelConfig:
    return ModelConfig(64, 32, 3, 4, num_kv_heads, 8, 48, max_position=64)


def make(kind: str, config: ModelConfig, batch: int = 1, dtype: Any = torch.float32) -> Cache:
    if kind == "growing":
        return GrowingCache(config)
    return StaticCache(config, CAPACITY, batch=batch, dtype=dtype)


def tokens(length: int, batch: int = 1, seed: int = 0) -> Any:
    return torch.randint(0, 64, (batch, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["growing", "static"])
@pytest.mark.parametrize("num_kv_heads", [4, 2, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@torch.inference_mode()
def test_bytes_are_the_formula_at_every_length(kind: str, num_kv_heads: int, dtype: Any) -> None:
    config, batch = shape(num_kv_heads), 3
    model = random_decoder(config, seed=0).to(dtype)
    cache = make(kind, config, batch, dtype)
    assert cache.bytes() == 0
    for part in tokens(20, batch).split([6, 1, 1, 12], dim=1):
        model(part, cache)
        L, H_kv, D, T = config.num_layers, num_kv_heads, config.head_dim, cache.length
        assert cache.bytes() == 2 * L * H_kv * D * T * batch * dtype.itemsize
        assert cache.bytes() == config.cache_bytes(T, batch=batch, itemsize=dtype.itemsize)


def test_fewer_kv_heads_need_proportionally_fewer_bytes() -> None:
    assert shape(4).cache_bytes(100) == 2 * shape(2).cache_bytes(100) == 4 * shape(1).cache_bytes(100)


@torch.inference_mode()
def test_a_full_static_cache_refuses_and_keeps_what_it_has() -> None:
    config = shape()
    model, cache = random_decoder(config, seed=0), make("static", config)
    model(tokens(CAPACITY - 1), cache)

    with pytest.raises(ModelError, match="25 tokens exceed its capacity of 24"):
        model(tokens(2), cache)
    assert cache.length == CAPACITY - 1
    model(tokens(1), cache)
    assert cache.length == CAPACITY


@torch.inference_mode()
def test_a_static_cache_reserves_all_of_its_memory_and_moves_nothing() -> None:
    config = shape()
    model, cache = random_decoder(config, seed=0), make("static", config)
    for part in tokens(10).split(1, dim=1):
        model(part, cache)

    assert cache.reserved_bytes() == config.cache_bytes(CAPACITY)
    assert cache.copied_bytes == 0


@torch.inference_mode()
def test_a_growing_cache_copies_a_triangle_of_rows() -> None:
    config, T = shape(), 12
    model, cache = random_decoder(config, seed=0), make("growing", config)
    for part in tokens(T).split(1, dim=1):
        model(part, cache)

    assert cache.copied_bytes == config.cache_bytes(1) * T * (T - 1) // 2
    assert cache.reserved_bytes() == cache.bytes()


@pytest.mark.parametrize("kind", ["growing", "static"])
@torch.inference_mode()
def test_a_reset_cache_is_a_new_one(kind: str) -> None:
    config = shape()
    model, cache = random_decoder(config, seed=0), make(kind, config)
    expected = model(tokens(9), cache).clone()
    model(tokens(9, seed=1), cache)
    cache.reset()

    assert (cache.length, cache.bytes(), cache.copied_bytes) == (0, 0, 0)
    assert torch.equal(model(tokens(9), cache), expected)


@pytest.mark.parametrize("num_kv_heads", [4, 2, 1])
@torch.inference_mode()
def test_a_later_token_cannot_change_the_past(num_kv_heads: int) -> None:
    model = random_decoder(shape(num_kv_heads), seed=0)
    before = tokens(16, batch=2)
    after = before.clone()
    after[:, 11] = (after[:, 11] + 1) % 64
    changed = (model(before) - model(after)).abs().amax(dim=(0, 2))  # [T]

    assert changed[:11].max() == 0
    assert changed[11:].min() > 1e-4


@torch.inference_mode()
def test_a_cached_token_needs_its_true_position() -> None:
    """Random tokens at random positions: a model that turned every new token as position 0 would differ widely."""
    config = shape()
    model, cache = random_decoder(config, seed=0), make("growing", config)
    text = tokens(16)
    model(text[:, :15], cache)
    right = model(text[:, 15:], cache)
    alone = model(text[:, 15:])

    torch.testing.assert_close(right, model(text)[:, -1:], rtol=1e-5, atol=1e-5)
    assert (right - alone).abs().max() > 0.1


@torch.inference_mode()
def test_shared_heads_equal_repeated_heads() -> None:
    """GQA is multi-head attention whose K/V projections repeat each head for its whole group, in order."""
    grouped = random_decoder(shape(2), seed=0)
    full = random_decoder(shape(4), seed=0)
    weights = grouped.state_dict()
    for name, weight in weights.items():
        if "k_proj" in name or "v_proj" in name:
            weights[name] = weight.view(2, 8, -1).repeat_interleave(2, dim=0).flatten(0, 1)
    full.load_state_dict(weights)

    torch.testing.assert_close(grouped(tokens(12)), full(tokens(12)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["growing", "static"])
@torch.inference_mode()
def test_rows_are_reordered_and_tokens_taken_back(kind: str) -> None:
    config = shape()
    model, text = random_decoder(config, seed=0), tokens(10, batch=3)
    cache = make(kind, config, batch=3)
    model(text, cache)
    rows = torch.tensor([2, 0, 2])
    cache.reorder(rows)
    cache.truncate(7)
    following = tokens(2, batch=3, seed=1)

    expected = model(torch.cat((text[rows, :7], following), dim=1))[:, -2:]
    assert torch.allclose(model(following, cache), expected, atol=1e-5)
    with pytest.raises(ModelError, match="cannot go back to 10 tokens, it holds 9"):
        cache.truncate(10)
