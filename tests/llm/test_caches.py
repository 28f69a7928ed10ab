"""Caches by themselves: their bytes, their limits, and what a fault in the model would do to them."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.cache.base import Cache  # noqa: E402
from llmquiz.llm.cache.growing import GrowingCache  # noqa: E402
from llmquiz.llm.cache.paged import PagedCache  # noqa: E402
from llmquiz.llm.cache.quantized import QuantizedCache  # noqa: E402
from llmquiz.llm.cache.ring import RingCache  # noqa: E402
from llmquiz.llm.cache.static import StaticCache  # noqa: E402
from llmquiz.llm.decode.generate import generate  # noqa: E402
from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import random_decoder  # noqa: E402

pytestmark = pytest.mark.labs

CAPACITY, BLOCK, GROUP = 24, 4, 4
EXACT = ("growing", "static", "paged", "unrounded")  # for models without a window
ALL = (*EXACT, "ring", "int8", "int4")
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.1}  # of logits with a standard deviation near one


def shape(num_kv_heads: int = 2, window: int | None = None) -> ModelConfig:
    return ModelConfig(64, 32, 3, 4, num_kv_heads, 8, 48, max_position=64, sliding_window=window)


def make(kind: str, config: ModelConfig, batch: int = 1, dtype: Any = torch.float32) -> Cache:
    if kind == "growing":
        return GrowingCache(config)
    if kind == "static":
        return StaticCache(config, CAPACITY, batch=batch, dtype=dtype)
    if kind == "paged":
        return PagedCache(config, batch * CAPACITY // BLOCK, block_size=BLOCK, dtype=dtype)
    if kind == "ring":
        return RingCache(config, batch=batch, dtype=dtype)
    if kind == "unrounded":  # all of it fits into the tail
        return QuantizedCache(config, group=GROUP, residual=CAPACITY)
    return QuantizedCache(config, bits=int(kind[3:]), group=GROUP)


def window_of(kind: str) -> int | None:
    return 7 if kind == "ring" else None


def tokens(length: int, batch: int = 1, seed: int = 0) -> Any:
    return torch.randint(0, 64, (batch, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("chunks", [[6, 1, 1, 8, 1, 3], [3, 9, 1, 1, 1, 1, 1, 2, 1]], ids=str)
@pytest.mark.parametrize(
    ("kind", "window"), [*((kind, None) for kind in EXACT), *((kind, 7) for kind in (*EXACT, "ring")), ("ring", 40)]
)
@torch.inference_mode()
def test_logits_are_those_of_recomputing(kind: str, window: int | None, chunks: list[int]) -> None:
    for num_kv_heads, dtype in ((2, torch.float32), (4, torch.float32), (1, torch.bfloat16)):
        config = shape(num_kv_heads, window)
        model, text = random_decoder(config, seed=0).to(dtype), tokens(20, batch=3)
        cache = make(kind, config, batch=3, dtype=dtype)
        expected = model(text).split(chunks, dim=1)
        for part, wanted in zip(text.split(chunks, dim=1), expected, strict=True):
            found = model(part, cache)
            assert found.dtype == dtype
            assert (found - wanted).abs().max() < TOLERANCE[dtype]
        assert cache.length == 20


@pytest.mark.parametrize("kind", EXACT)
@torch.inference_mode()
def test_padding_is_hidden_in_every_cache(kind: str) -> None:
    config, pads = shape(), 3
    model, text = random_decoder(config, seed=0), tokens(12)
    padded = torch.cat((tokens(pads, seed=5), text), dim=1)
    mask = torch.arange(12 + pads)[None] >= pads
    positions = (torch.arange(12 + pads)[None] - pads).clamp(min=0)
    cache = make(kind, config)
    model(padded[:, :10], cache, mask=mask[:, :10], positions=positions[:, :10])
    found = model(padded[:, 10:], cache, mask=mask, positions=positions[:, 10:])

    assert (found - model(text)[:, 7:]).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["growing", "static", "paged", "ring", "unrounded"])
def test_greedy_tokens_are_those_of_no_cache(kind: str) -> None:
    config = shape(window=window_of(kind))
    model, prompt = random_decoder(config, seed=3), tokens(6, batch=2)
    expected = generate(model, prompt, 14).tokens

    assert expected.unique().numel() > 4
    assert torch.equal(generate(model, prompt, 14, cache=make(kind, config, batch=2)).tokens, expected)


@pytest.mark.parametrize("kind", ["growing", "static", "paged", "ring", "unrounded"])
@pytest.mark.parametrize("num_kv_heads", [4, 2, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@torch.inference_mode()
def test_bytes_are_the_formula_at_every_length(kind: str, num_kv_heads: int, dtype: Any) -> None:
    config, batch = shape(num_kv_heads, window_of(kind)), 3
    model = random_decoder(config, seed=0).to(dtype)
    cache = make(kind, config, batch, dtype)
    assert cache.bytes() == 0
    for part in tokens(20, batch).split([6, 1, 1, 12], dim=1):
        model(part, cache)
        L, H_kv, D, T = config.num_layers, num_kv_heads, config.head_dim, cache.length
        T = min(T, config.sliding_window or T)
        assert cache.bytes() == 2 * L * H_kv * D * T * batch * dtype.itemsize
        assert cache.bytes() == config.cache_bytes(T, batch=batch, itemsize=dtype.itemsize)
        assert cache.bytes() <= cache.reserved_bytes()


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


@pytest.mark.parametrize("kind", ALL)
@torch.inference_mode()
def test_a_reset_cache_is_a_new_one(kind: str) -> None:
    config = shape(window=window_of(kind))
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


@pytest.mark.parametrize("kind", EXACT)
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
    with pytest.raises(ModelError, match="cannot go back to -1"):
        cache.truncate(-1)


@pytest.mark.parametrize("kind", [*EXACT, "ring"])
@torch.inference_mode()
def test_one_row_becomes_several(kind: str) -> None:
    """Best-of-n and beam search: one prompt, computed once, continued n times."""
    config = shape(window=window_of(kind))
    model, text = random_decoder(config, seed=0), tokens(9)
    cache = make(kind, config)
    if kind == "paged":
        cache = PagedCache(config, 3 + 3, block_size=BLOCK)  # three for the prompt, and one for each that parts
        cache.reorder(torch.tensor([0, 0]))  # of nothing: the prompt says how many there are
    model(text, cache)
    cache.reorder(torch.tensor([0, 0, 0]))
    following = tokens(2, batch=3, seed=1)

    expected = model(torch.cat((text.expand(3, -1), following), dim=1))[:, -2:]
    assert torch.allclose(model(following, cache), expected, atol=1e-5)


@torch.inference_mode()
def test_a_ring_holds_its_window_and_goes_back_no_further() -> None:
    config = shape(window=8)
    model, cache, text = random_decoder(config, seed=0), RingCache(config), tokens(24)
    model(text[:, :6], cache)
    cache.truncate(4)
    model(text[:, 4:8], cache)
    cache.truncate(7)  # nothing was overwritten yet
    for part in text[:, 7:20].split(1, dim=1):
        model(part, cache)
    assert cache.reserved_bytes() == cache.bytes() == config.cache_bytes(8)
    with pytest.raises(ModelError, match="after 18 tokens the next one attends to some that were overwritten"):
        cache.truncate(18)
    cache.truncate(19)

    torch.testing.assert_close(model(text[:, 19:20], cache), model(text[:, :20])[:, -1:], rtol=1e-5, atol=1e-5)
    cache.truncate(19)
    torch.testing.assert_close(model(text[:, 19:], cache), model(text)[:, 19:], rtol=1e-5, atol=1e-5)
    with pytest.raises(ModelError, match="attends to all tokens"):
        RingCache(shape())


@torch.inference_mode()
def test_a_chunk_longer_than_the_window_leaves_enough_to_go_back_by_one() -> None:
    config = shape(window=8)
    model, cache, text = random_decoder(config, seed=0), RingCache(config), tokens(20)
    model(text, cache)
    cache.truncate(19)

    torch.testing.assert_close(model(text[:, 19:], cache), model(text)[:, 19:], rtol=1e-5, atol=1e-5)


def test_a_ring_gives_its_window_to_one_token_and_the_past_in_order_to_several() -> None:
    cache = RingCache(shape(num_kv_heads=1, window=4))

    def feed(*positions: int) -> list[int]:
        k = torch.tensor(positions, dtype=torch.float32)[None, None, :, None].expand(1, 1, -1, 8)
        given = [cache.update(layer, k, -k) for layer in range(3)]
        assert all(torch.equal(keys, -values) for keys, values in given)
        return [int(position) for position in given[-1][0][0, 0, :, 0]]

    assert feed(0, 1) == [0, 1]
    assert feed(2) == [0, 1, 2]
    assert feed(3, 4, 5) == [0, 1, 2, 3, 4, 5]
    assert sorted(feed(6)) == [3, 4, 5, 6]
    assert feed(7, 8) == [4, 5, 6, 7, 8]


@torch.inference_mode()
def test_a_fork_shares_blocks_until_it_writes() -> None:
    config = shape()
    model, cache = random_decoder(config, seed=0), PagedCache(config, 12, block_size=BLOCK)
    model(tokens(10), cache)
    assert cache.utilization == pytest.approx(10 / 12)
    cache.reorder(torch.tensor([0, 0, 0, 0]))
    assert cache.bytes() == config.cache_bytes(10)
    assert cache.copied_bytes == 0

    model(tokens(1, batch=4), cache)
    assert cache.copied_bytes == 3 * config.cache_bytes(BLOCK)  # the last one to write needs no copy
    assert cache.bytes() == config.cache_bytes(8 + 4 * 3)
    assert cache.pool.num_taken == 2 + 4
    assert cache.reserved_bytes() == config.cache_bytes(12 * BLOCK)


@torch.inference_mode()
def test_without_a_free_block_a_paged_cache_refuses_and_loses_nothing() -> None:
    config = shape()
    model, text = random_decoder(config, seed=0), tokens(9, batch=2)
    cache = PagedCache(config, 4, block_size=BLOCK)
    model(text[:, :8], cache)
    with pytest.raises(ModelError, match="2 blocks are needed and 0 of 4 are free"):
        model(text[:, 8:], cache)
    with pytest.raises(ModelError, match="holds 2 sequences and was fed 1"):
        model(text[:1, 8:], cache)
    assert cache.length == 8
    cache.reorder(torch.tensor([1]))

    torch.testing.assert_close(model(text[1:, 8:], cache), model(text[1:])[:, 8:], rtol=1e-5, atol=1e-5)
