"""Scaled dot-product attention, and causal self-attention with shared K/V heads and a cache (Vaswani et al. 2017,
section 3.2; Ainslie et al. 2023 for GQA).

Scores are divided by sqrt(D) because a dot product of D independent terms has a standard deviation of sqrt(D): without
it softmax saturates and its gradient dies. Overflow is not the reason; softmax subtracts the largest score anyway.

A cache is only possible because attention is causal: the keys and values of a token depend on the tokens before it, so
a later token cannot change them. What it saves is the computing of K and V again, not memory traffic: each step still
reads every cached key and value once.

Shapes: B batch, T new tokens, S tokens attended (past and new), H query heads, H_kv K/V heads, G = H / H_kv, D
head_dim.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmquiz.llm.cache.base import Cache
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.norms import RMSNorm
from llmquiz.llm.model.positions import rotate


def visibility(
    queries: int,
    keys: int,
    *,
    causal: bool = False,
    window: int | None = None,
    mask: Tensor | None = None,
    device: torch.device | None = None,
) -> Tensor | None:  # -> [T, S], [B, 1, 1, S] or [B, 1, T, S], True where a query may see a key
    """One mask of causality and of what the caller hides, ready to broadcast over heads; None if all is visible.

    The triangle is aligned to the bottom right: query t stands at position S - T + t. torch's `is_causal` aligns it to
    the top left, which is right only for T = S; with a past (S > T) it would hide nearly everything from new tokens.

    Args:
        window: with causality, how many keys up to its own a query may see (a sliding window).
        mask: True for visible: [B, S] hides padding keys, [B, T, S] e.g. other documents of a packed row. It says the
            opposite of torch.nn.MultiheadAttention's `key_padding_mask`, where True hides.
    """
    triangle = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries) if causal else None
    if triangle is not None and window is not None:
        triangle = triangle.triu(keys - queries - window + 1)
    if mask is None:
        return triangle
    heads = mask[:, None, None] if mask.dim() == 2 else mask[:, None]
    return heads if triangle is None else heads & triangle


def attention_weights(
    q: Tensor, k: Tensor, visible: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:  # [B, H, T, D], [B, H_kv, S, D] -> [B, H, T, S] in fp32
    """softmax(q k^T / sqrt(D) + bias) over the visible keys; all zero for a query that sees none.

    The query is divided before the product and the softmax runs in fp32, so half precision does not overflow. Hidden
    scores get the lowest finite number: -1e9 is no fp16 number, and -inf makes a row without visible keys nan.

    Args:
        visible: broadcastable to [B, H, T, S], True where a query may see a key.
        bias: added to the scaled scores, broadcastable to [B, H, T, S].
    """
    k = k.repeat_interleave(q.size(1) // k.size(1), dim=1)  # neighbours share a K/V head; `repeat` would mix them up
    scores = ((q / math.sqrt(q.size(-1))) @ k.mT).float()
    if bias is not None:
        scores = scores + bias
    if visible is None:
        return scores.softmax(-1)
    return scores.masked_fill(~visible, torch.finfo(scores.dtype).min).softmax(-1).masked_fill(~visible, 0.0)


def scaled_dot_product(
    q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:  # [B, H, T, D], [B, H_kv, S, D] twice -> [B, H, T, D]
    """The average of the values, weighted by `attention_weights`. What torch's fused kernel computes, written out."""
    v = v.repeat_interleave(q.size(1) // v.size(1), dim=1)
    return attention_weights(q, k, visible, bias).to(v.dtype) @ v


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, window: int | None = None
) -> Tensor:  # [B, H, T, D], [B, H_kv, S, D] twice -> [B, H, T, D]
    """Causal attention of the last T of S tokens to all S, or to the last `window`, by the fastest kernel that fits.

    Args:
        mask: what may be seen besides, True for yes: [B, S] or [B, T, S]. Causality is added here.
        window: how many tokens, its own among them, a query may see.
    """
    T, S = q.size(2), k.size(2)
    if window is not None and window >= S:
        window = None
    if window is not None and T == 1:
        k, v, mask = k[:, :, -window:], v[:, :, -window:], None if mask is None else mask[..., -window:]
        window = None
    if T == 1:
        return _attend_one(q, k, v, None if mask is None else visibility(1, k.size(2), mask=mask))
    square = mask is None and window is None and T == S
    visible = None if square else visibility(T, k.size(2), causal=True, window=window, mask=mask, device=q.device)
    grouped = q.size(1) != k.size(1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visible, is_causal=square, enable_gqa=grouped)


def _attend_one(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None) -> Tensor:
    """One new token has nothing after it to hide, so the G query heads of a group become G rows of one query: K and V
    are not repeated."""
    B, H, _, D = q.shape
    grouped = q.view(B, k.size(1), H // k.size(1), D)
    return F.scaled_dot_product_attention(grouped, k, v, attn_mask=visible).view(B, H, 1, D)


class Attention(nn.Module):
    """Multi-head, grouped-query or multi-query attention, by `num_kv_heads`.

    Args:
        config: the model's shape.
        layer: index of this layer; the cache keeps K and V apart by it.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim, self.window = layer, config.head_dim, config.sliding_window
        queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=config.qkv_bias)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=config.output_bias)
        self.q_norm = RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else nn.Identity()

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], cache: Cache | None, mask: Tensor | None = None
    ) -> Tensor:  # [B, T, hidden] -> same
        q = rotate(self.q_norm(self._heads(self.q_proj(x))), *rotation)
        k = rotate(self.k_norm(self._heads(self.k_proj(x))), *rotation)
        v = self._heads(self.v_proj(x))
        if cache is not None:
            k, v = cache.update(self.layer, k, v)
        attended: Tensor = self.o_proj(attend(q, k, v, mask, self.window).transpose(1, 2).flatten(2))
        return attended

    def _heads(self, x: Tensor) -> Tensor:  # [B, T, H * D] -> [B, H, T, D]
        return x.view(x.size(0), x.size(1), -1, self.head_dim).transpose(1, 2)
