"""Tiled attention: what torch computes and its gradient, for every shape; what it counts is what a witness counts."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.model.attention import visibility  # noqa: E402
from llmquiz.llm.model.backends import (  # noqa: E402
    BACKENDS,
    default_backend,
    reasons_against,
    run_backend,
)
from llmquiz.llm.model.tiled import Work, tiled_attention  # noqa: E402
from llmquiz.llm.train.device import peak_memory  # noqa: E402

pytestmark = pytest.mark.labs

B, H, D = 2, 4, 8
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def tensors(T: int, S: int, kv_heads: int = H, dtype: Any = torch.float32, width: int = D) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(T + S)
    shapes = ((B, H, T, width), (B, kv_heads, S, width), (B, kv_heads, S, width))
    return tuple(torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes)


def with_gradients(attended: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    weights = torch.randn(attended.shape, generator=torch.Generator().manual_seed(0)).to(attended.dtype)
    return attended.detach(), *torch.autograd.grad(attended, inputs, weights)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize(
    ("T", "S", "causal", "window"),
    [
        (19, 19, False, None),
        (19, 7, False, None),
        (19, 19, True, None),
        (7, 19, True, None),
        (1, 19, True, 6),
        (7, 19, True, 6),
        (19, 19, True, 1),
        (19, 19, True, 99),
    ],
)
def test_it_is_what_torch_computes(T: int, S: int, causal: bool, window: int | None, kv_heads: int) -> None:
    inputs = tensors(T, S, kv_heads)
    visible = visibility(T, S, causal=causal, window=window)
    expected = with_gradients(F.scaled_dot_product_attention(*inputs, attn_mask=visible, enable_gqa=True), inputs)
    for tile in (5, 64):
        found = with_gradients(tiled_attention(*inputs, causal=causal, window=window, tile=tile), inputs)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.mark.parametrize(("T", "S", "window"), [(5, 5, None), (3, 6, 2), (6, 4, None)])
def test_its_gradient_is_that_of_finite_differences(T: int, S: int, window: int | None) -> None:
    inputs = tuple(x.detach()[:1, -2:].requires_grad_() for x in tensors(T, S, 1, torch.float64, width=2))

    assert torch.autograd.gradcheck(lambda *qkv: tiled_attention(*qkv, causal=True, window=window, tile=2), inputs)


def test_in_double_precision_it_is_exact() -> None:
    inputs = tensors(40, 40, dtype=torch.float64)
    expected = with_gradients(F.scaled_dot_product_attention(*inputs, is_causal=True), inputs)

    for ours, theirs in zip(
        with_gradients(tiled_attention(*inputs, causal=True, tile=16), inputs), expected, strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_half_precision_adds_up_in_single() -> None:
    """The whole of 600 tokens errs by no more than rounding inputs and output to bf16 does."""
    q, k, v = tensors(600, 600, dtype=torch.bfloat16)
    exact = F.scaled_dot_product_attention(q.double(), k.double(), v.double())
    attended = tiled_attention(q, k, v, tile=100)

    assert attended.dtype == torch.bfloat16
    torch.testing.assert_close(attended.double(), exact, rtol=2**-8, atol=1e-6)
    assert torch.autograd.grad(attended.sum(), v)[0].dtype == torch.bfloat16


@pytest.mark.parametrize("window", [None, 3])
def test_a_query_that_sees_nothing_gets_zeros_and_finite_gradients(window: int | None) -> None:
    """With 9 queries and 4 keys the first five stand before the first key."""
    inputs = tensors(9, 4, 2)
    attended = tiled_attention(*inputs, causal=True, window=window, tile=3)
    gradients = torch.autograd.grad(attended.square().sum(), inputs)

    assert (attended[:, :, :5] == 0).all()
    assert (attended[:, :, 5:] != 0).all()
    assert (gradients[0][:, :, :5] == 0).all()
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_scores_of_a_thousand_do_not_overflow() -> None:
    q = torch.full((1, 1, 8, 64), 40.0)
    k = q * torch.linspace(-1, 1, 8)[:, None]  # scores up to 12800

    attended = tiled_attention(q, k, k, tile=2)
    torch.testing.assert_close(attended, k[:, :, -1:].expand_as(k))


@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (True, 24)])
def test_it_counts_what_the_dispatcher_counts(causal: bool, window: int | None) -> None:
    inputs, work = tensors(64, 64, 2), Work()
    with FlopCounterMode(display=False) as forward:
        attended = tiled_attention(*inputs, causal=causal, window=window, tile=16, work=work)
    with FlopCounterMode(display=False) as backward:
        attended.sum().backward()

    assert work.forward_flops == forward.get_total_flops() == 4 * D * work.pairs
    assert work.backward_flops == backward.get_total_flops() == 10 * D * work.pairs
    tiles = {(False, None): 4 * 4, (True, None): 4 * 5 // 2}.get((causal, window))
    if tiles:
        assert work.pairs == B * H * 16 * 16 * tiles
    else:  # rows of 16 queries that see 16 + 23 keys, where there are as many before them
        assert work.pairs == B * H * 16 * (16 + 32 + 39 + 39)


def test_what_lives_is_one_tile_of_scores_and_not_all_of_them() -> None:
    held = {}
    for T in (128, 512):
        inputs, work = tensors(T, T, 2), Work()
        with peak_memory("cpu") as peak:
            attended = tiled_attention(*inputs, causal=True, tile=64, work=work)
            assert work.score_bytes == B * H * 64 * 64 * 4
            attended.sum().backward()
        assert work.score_bytes == 2 * B * H * 64 * 64 * 4  # weights, and the gradient of the scores
        held[T] = peak.bytes

    assert held[512] < 4 * held[128]
    assert held[512] < B * H * 512 * 512 * 4 / 4


@pytest.mark.parametrize("wrong", [{"window": 4}, {"causal": True, "window": 0}, {"tile": 0}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="a window is causal"):
        tiled_attention(*tensors(4, 4), **wrong)
    with pytest.raises(ModelError, match="4 query heads cannot share 3"):
        tiled_attention(*tensors(4, 4, 3))


def test_every_backend_runs_or_says_why_not() -> None:
    q, k, v = tensors(12, 12, 2)
    reasons = reasons_against(q, k, v, causal=True)

    assert set(reasons) == set(BACKENDS)
    assert reasons["math"] == reasons["flash"] == ""
    assert reasons["efficient"] == "needs CUDA, the tensors are on cpu; use math or flash"
    expected = tiled_attention(q, k, v, causal=True)
    for name in ("math", "flash"):
        torch.testing.assert_close(run_backend(name, q, k, v, causal=True), expected, **CLOSE)


def test_the_default_is_flash_until_it_cannot() -> None:
    q, k, v = tensors(12, 12)
    mask = torch.zeros(12, 12, requires_grad=True)

    assert default_backend(q, k, v) == default_backend(q, k[:, :1], v[:, :1], causal=True) == "flash"
    assert default_backend(q, k, v, mask=mask) == "math"
    assert reasons_against(q, k, v, mask=mask)["flash"] == "the mask wants a gradient, which only math computes"
    with pytest.raises(ModelError, match=r"flash attention: .*the same last dimension"):
        run_backend("flash", q, k, v[..., :4])


def test_torchs_own_triangle_hides_the_past_from_one_query() -> None:
    q, k, v = tensors(1, 12)

    torch.testing.assert_close(run_backend("flash", q, k, v, causal=True), v[:, :, :1])
    torch.testing.assert_close(run_backend("flash", q, k, v), tiled_attention(q, k, v, causal=True), **CLOSE)
