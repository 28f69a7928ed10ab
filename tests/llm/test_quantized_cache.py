"""Keys and values in few bits: packing, the error of a step, bytes with all that belongs to them, and the tail."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.cache.quantized import QuantizedCache, dequantize, pack, quantize, unpack  # noqa: E402
from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import random_decoder  # noqa: E402

pytestmark = pytest.mark.labs

GROUP = 8
CONFIG = ModelConfig(64, 64, 2, 4, 2, 16, 96, max_position=128)


def numbers(*shape: int, seed: int = 0) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def text(length: int, batch: int = 1) -> Any:
    return torch.randint(0, 64, (batch, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_packing_loses_nothing_and_fills_every_byte(bits: int) -> None:
    codes = torch.randint(0, 2**bits, (3, 5, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    packed = pack(codes, bits)

    assert packed.nbytes == codes.numel() * bits // 8
    assert torch.equal(unpack(packed, bits), codes)


def test_two_int4_stand_in_a_byte_the_first_in_its_low_bits() -> None:
    assert pack(torch.tensor([3, 10], dtype=torch.uint8), 4).tolist() == [3 + 16 * 10]


@pytest.mark.parametrize("axis", ["channel", "token"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_no_number_is_further_off_than_half_a_step(bits: int, axis: Any) -> None:
    x = 3 * numbers(2, 3, 24, 16) + 5
    q = quantize(x, bits=bits, axis=axis, group=GROUP)
    error = (dequantize(q, bits=bits, axis=axis, dtype=torch.float32) - x).abs()
    coarse = q.scale.float().amax() * 0.5 + 2**-11 * x.abs().max()  # the smallest number was rounded to fp16

    assert error.max() <= coarse
    assert error.max() > 0.2 * coarse


@pytest.mark.parametrize("axis", ["channel", "token"])
def test_torch_rounds_to_the_same_numbers(axis: Any) -> None:
    """torch's kernel, fed with our scales: its groups are the channels of a matrix."""
    x = numbers(1, 1, GROUP, 16)
    q = quantize(x, bits=4, axis=axis, group=GROUP)
    if axis == "channel":
        matrix, scale, zero = x[0, 0].t(), q.scale.flatten(), q.zero.flatten()
    else:
        matrix, scale, zero = x.reshape(-1, GROUP), q.scale.flatten(), q.zero.flatten()
    scale = scale.float()
    theirs = torch.fake_quantize_per_channel_affine(matrix.contiguous(), scale, -zero.float() / scale, 0, 0, 15)
    theirs = theirs.t() if axis == "channel" else theirs.reshape(GROUP, 16)
    ours = dequantize(q, bits=4, axis=axis, dtype=torch.float32)[0, 0]

    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_an_outlier_channel_spoils_tokens_and_not_channels() -> None:
    x = numbers(1, 1, 64, 16)
    x[..., 3] *= 20
    small = torch.arange(16) != 3

    def error(axis: Any) -> float:
        restored = dequantize(quantize(x, bits=4, axis=axis, group=16), bits=4, axis=axis, dtype=torch.float32)
        return float(((restored - x)[..., small]).norm() / x[..., small].norm())

    assert error("channel") < 0.15
    assert error("token") > 4 * error("channel")


@pytest.mark.parametrize(("keys", "spread"), [("channel", True), ("token", False)])
def test_a_large_token_spoils_keys_by_channel_and_never_other_values(keys: Any, spread: bool) -> None:
    k, v = numbers(1, 2, GROUP, 16), numbers(1, 2, GROUP, 16, seed=1)
    k[:, :, 3], v[:, :, 3] = 50 * k[:, :, 3], 50 * v[:, :, 3]
    cache = QuantizedCache(CONFIG, bits=4, keys=keys, group=GROUP)
    new = numbers(1, 2, 1, 16)
    cache.update(0, k, v)
    rounded_keys, rounded_values = cache.update(0, new, new)
    others = torch.arange(GROUP) != 3

    assert (rounded_values[:, :, :GROUP] - v)[:, :, others].abs().max() < 0.3
    assert ((rounded_keys[:, :, :GROUP] - k)[:, :, others].abs().max() > 1) == spread
    assert torch.equal(rounded_keys[:, :, GROUP:], new)


def test_equal_numbers_are_kept() -> None:
    x = torch.full((1, 1, GROUP, 16), 1.5)
    assert torch.equal(
        dequantize(quantize(x, bits=2, axis="channel", group=GROUP), bits=2, axis="channel", dtype=x.dtype), x
    )


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("residual", [0, 5])
@torch.inference_mode()
def test_bytes_count_codes_scales_zeros_and_the_tail(bits: int, residual: int) -> None:
    model, batch = random_decoder(CONFIG, seed=0), 3
    cache = QuantizedCache(CONFIG, bits=bits, group=GROUP, residual=residual)
    for part in text(40, batch).split([5, 1, 1, 1, 1, 23, 8], dim=1):
        model(part, cache)
        Q = GROUP * max(0, (cache.length - residual) // GROUP)
        numbers_a_token = 2 * CONFIG.num_layers * batch * CONFIG.num_kv_heads * CONFIG.head_dim
        rounded = Q * (bits + 32 / GROUP) / 8
        assert cache.bytes() == numbers_a_token * (rounded + (cache.length - Q) * 4)
        assert cache.reserved_bytes() == cache.bytes()


@torch.inference_mode()
def test_more_bits_are_nearer_to_recomputing() -> None:
    model, tokens = random_decoder(CONFIG, seed=0), text(64)
    expected = model(tokens)[:, -1]
    errors = []
    for bits in (8, 4, 2):
        cache = QuantizedCache(CONFIG, bits=bits, group=GROUP)
        for part in tokens.split(GROUP, dim=1):
            found = model(part, cache)[:, -1]
        errors.append(float((found - expected).abs().max()))

    assert 0 < errors[0] < errors[1] / 4 < errors[2] / 8
    assert errors[0] < 0.02


@pytest.mark.parametrize("keys", ["channel", "token"])
@torch.inference_mode()
def test_chunks_that_end_with_a_group_equal_single_tokens(keys: Any) -> None:
    model, tokens = random_decoder(CONFIG, seed=0).double(), text(3 * GROUP + 2)  # fp32 noise would turn some codes
    chunked, single = (QuantizedCache(CONFIG, keys=keys, group=GROUP) for _ in range(2))
    by_chunk = torch.cat([model(part, chunked) for part in tokens.split(GROUP, dim=1)], dim=1)
    by_token = torch.cat([model(part, single) for part in tokens.split(1, dim=1)], dim=1)

    torch.testing.assert_close(by_chunk, by_token, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_rounded_rows_are_reordered_and_a_cut_group_goes_back_to_the_tail() -> None:
    model, tokens = random_decoder(CONFIG, seed=0), text(21, batch=2)
    cache, same = (QuantizedCache(CONFIG, bits=8, group=GROUP) for _ in range(2))
    model(tokens, cache)
    model(tokens.flip(0), same)
    cache.reorder(torch.tensor([1, 0]))
    torch.testing.assert_close(model(tokens[:, :1], cache), model(tokens[:, :1], same), rtol=1e-5, atol=1e-5)

    cache.truncate(11)
    assert cache.length == 11
    assert cache.bytes() == 2 * 2 * 2 * 2 * 16 * (8 * (8 + 32 / GROUP) / 8 + 3 * 4)
    exact = model(torch.cat((tokens.flip(0)[:, :11], tokens[:, :1]), dim=1))[:, -1:]
    assert (model(tokens[:, :1], cache) - exact).abs().max() < 0.02
    cache.truncate(0)
    torch.testing.assert_close(model(tokens, cache), model(tokens), rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_the_dtype_of_the_model_comes_back() -> None:
    model = random_decoder(CONFIG, seed=0).to(torch.bfloat16)
    cache = QuantizedCache(CONFIG, bits=8, group=GROUP)
    for part in text(20).split([8, 8, 4], dim=1):
        logits = model(part, cache)

    assert logits.dtype == torch.bfloat16
    assert (logits - model(text(20))[:, 16:]).abs().max() < 0.2


def test_what_does_not_fill_bytes_or_heads_is_refused() -> None:
    with pytest.raises(ModelError, match="3 bits do not fill a byte"):
        QuantizedCache(CONFIG, bits=3)
    with pytest.raises(ModelError, match="groups of 32 at 4 bits do not fill heads of 16 evenly; use a group of 16"):
        QuantizedCache(CONFIG)
