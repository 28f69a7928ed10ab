"""Attention written out, the fused kernel and torch's own module say the same, and masks mean what they say."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.model.attention import attend, attention_weights, scaled_dot_product, visibility  # noqa: E402
from llmquiz.llm.model.multi_head import MultiHeadAttention  # noqa: E402
from llmquiz.llm.model.positions import alibi_bias, alibi_slopes  # noqa: E402

pytestmark = pytest.mark.labs

B, T, S, H, D = 2, 5, 7, 4, 8
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}
PADDING = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])  # [B, S]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def heads(length: int, number: int = H, dtype: Any = torch.float32) -> Any:
    return torch.randn(B, number, length, D, generator=torch.Generator().manual_seed(length + number)).to(dtype)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize(
    "visible",
    [
        None,
        visibility(T, S, causal=True),
        visibility(T, S, mask=PADDING),
        visibility(T, S, causal=True, mask=PADDING),
        visibility(T, S, mask=torch.rand(B, T, S, generator=torch.Generator().manual_seed(0)) > 0.3),
    ],
    ids=["none", "causal", "padding", "both", "pairs"],
)
def test_the_formula_is_what_torch_computes(visible: Any, kv_heads: int) -> None:
    q, k, v = heads(T), heads(S, kv_heads), heads(S, kv_heads) + 1
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, enable_gqa=True)

    torch.testing.assert_close(scaled_dot_product(q, k, v, visible), expected, **TOLERANCE)


def test_a_bias_is_added_to_the_scaled_scores() -> None:
    q, k, v = heads(S), heads(S), heads(S)
    bias = alibi_bias(alibi_slopes(H), S, S)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.expand(B, H, S, S))

    torch.testing.assert_close(scaled_dot_product(q, k, v, bias=bias), expected, **TOLERANCE)


def test_the_triangle_stands_at_the_bottom_right() -> None:
    """With three tokens of the past, the first of two new ones sees four."""
    visible = visibility(2, 5, causal=True)

    assert visible is not None
    assert visible.tolist() == [[True, True, True, True, False], [True] * 5]


def test_attend_adds_causality_to_a_mask() -> None:
    q, k, v = heads(T), heads(S, 2), heads(S, 2)

    torch.testing.assert_close(attend(q, k, v), scaled_dot_product(q, k, v, visibility(T, S, causal=True)), **TOLERANCE)
    both = visibility(T, S, causal=True, mask=PADDING)
    torch.testing.assert_close(attend(q, k, v, PADDING), scaled_dot_product(q, k, v, both), **TOLERANCE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_query_that_sees_nothing_gets_zeros_and_finite_gradients(dtype: Any) -> None:
    q, k, v = (heads(T, dtype=dtype).requires_grad_() for _ in range(3))
    visible = torch.ones(T, T, dtype=torch.bool).tril()
    visible[0] = False
    out = scaled_dot_product(q, k, v, visible)
    out.float().square().sum().backward()

    assert (out[:, :, 0] == 0).all()
    assert attention_weights(q, k, visible)[:, :, 0].sum() == 0
    torch.testing.assert_close(attention_weights(q, k, visible)[:, :, 1:].sum(-1), torch.ones(B, H, T - 1))
    assert all(torch.isfinite(x.grad).all() for x in (q, k, v))
    fused = MultiHeadAttention(32, 4, bias=False).to(dtype)
    assert (fused(torch.randn(B, T, 32).to(dtype), mask=torch.zeros(B, T, dtype=torch.bool)) == 0).all()


def test_large_half_precision_scores_do_not_overflow() -> None:
    """q . k = 102400 is no fp16 number; divided by sqrt(64) first it is."""
    q = torch.full((1, 1, 1, 64), 40.0, dtype=torch.float16)

    assert torch.isinf(q @ q.mT).all()
    assert scaled_dot_product(q, q, q).isfinite().all()


@pytest.mark.parametrize("width", [16, 64, 256])
def test_scaling_undoes_the_square_root_of_the_width(width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(4000, width, generator=generator) for _ in range(2))

    assert float((q * k).sum(-1).std()) == pytest.approx(math.sqrt(width), rel=0.05)


def twin(ours: MultiHeadAttention, hidden: int, bias: bool) -> nn.MultiheadAttention:
    """torch's module with our weights."""
    theirs = nn.MultiheadAttention(hidden, H, bias=bias, batch_first=True)
    with torch.no_grad():
        projections = (ours.q_proj, ours.k_proj, ours.v_proj)
        theirs.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
        theirs.out_proj.weight.copy_(ours.o_proj.weight)
        if bias:
            theirs.in_proj_bias.copy_(torch.cat([p.bias for p in projections]))
            theirs.out_proj.bias.copy_(ours.o_proj.bias)
    return theirs


@pytest.mark.parametrize("bias", [True, False])
def test_the_module_is_torchs(bias: bool) -> None:
    """Self-attention, and cross-attention to a padded context of another length. torch's masks are True for hidden."""
    ours = MultiHeadAttention(32, H, bias=bias)
    theirs = twin(ours, 32, bias)
    x, context = torch.randn(B, T, 32), torch.randn(B, S, 32)
    hidden = ~torch.ones(T, T, dtype=torch.bool).tril()

    torch.testing.assert_close(ours(x), theirs(x, x, x)[0], **TOLERANCE)
    causal, weights = theirs(x, x, x, attn_mask=hidden, average_attn_weights=False)
    torch.testing.assert_close(ours(x, causal=True), causal, **TOLERANCE)
    torch.testing.assert_close(ours.weights(x, causal=True), weights, **TOLERANCE)
    crossed, weights = theirs(x, context, context, key_padding_mask=~PADDING, average_attn_weights=False)
    torch.testing.assert_close(ours(x, context, mask=PADDING), crossed, **TOLERANCE)
    torch.testing.assert_close(ours.weights(x, context, mask=PADDING), weights, **TOLERANCE)
    assert ours.weights(x, context).shape == (B, H, T, S)


@pytest.mark.parametrize("kv_heads", [2, 1])
def test_shared_heads_are_heads_that_are_equal(kv_heads: int) -> None:
    """Each K/V head serves neighbouring query heads: 0 0 1 1, not 0 1 0 1."""
    grouped, full = MultiHeadAttention(32, H, num_kv_heads=kv_heads), MultiHeadAttention(32, H)
    state = grouped.state_dict()
    for name in ("k_proj.weight", "k_proj.bias", "v_proj.weight", "v_proj.bias"):
        per_head = state[name].unflatten(0, (kv_heads, D))
        state[name] = per_head.repeat_interleave(H // kv_heads, dim=0).flatten(0, 1)
    full.load_state_dict(state)
    x = torch.randn(B, T, 32)

    torch.testing.assert_close(grouped(x, causal=True), full(x, causal=True), **TOLERANCE)
    torch.testing.assert_close(grouped.weights(x), full.weights(x), **TOLERANCE)


def test_a_score_bias_and_a_mask_go_together() -> None:
    module = MultiHeadAttention(32, H)
    x, bias = torch.randn(B, T, 32), alibi_bias(alibi_slopes(H), T, T)
    q, (k, v) = module._heads(module.q_proj(x)), module.keys_values(x)
    expected = scaled_dot_product(q, k, v, visibility(T, T, causal=True), bias)

    got = module(x, causal=True, score_bias=bias)
    torch.testing.assert_close(got, module.o_proj(expected.transpose(1, 2).flatten(2)), **TOLERANCE)


def test_heads_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelError, match="width 30 is not a multiple of 4 heads"):
        MultiHeadAttention(30, 4)
    with pytest.raises(ModelError, match="4 query heads cannot share 3"):
        MultiHeadAttention(32, 4, num_kv_heads=3)
    assert MultiHeadAttention(30, 4, head_dim=8).q_proj.out_features == 32
