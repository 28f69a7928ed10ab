"""Causal self-attention with shared K/V heads and a cache (Vaswani et al. 2017, section 3.2; Ainslie et al. 2023 for
GQA).

A cache is only possible because attention is causal: the keys and values of a token depend on the tokens before it, so
a later token cannot change them. What it saves is the computing of K and V again, not memory traffic: each step still
reads every cached key and value once.

Shapes: B batch, T new tokens, S tokens attended (past and new), H query heads, H_kv K/V heads, G = H / H_kv, D
head_dim.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmquiz.llm.cache.base import Cache
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.norms import RMSNorm
from llmquiz.llm.model.positions import rotate


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> Tensor:  # [B, H, T, D], [B, H_kv, S, D] twice -> [B, H, T, D]
    """Causal attention of the last T of S tokens to all S: new token t sees positions 0 .. S - T + t.

    torch's `is_causal` aligns the triangle to the top left, which is right only for T = S; with a past (S > T) it would
    hide nearly everything from the new tokens.

    Args:
        mask: what may be seen besides, True for yes: [B, S] hides padding, [B, T, S] also other documents of a packed
            row. Causality is added here.
    """
    T, S = q.size(2), k.size(2)
    grouped = q.size(1) != k.size(1)
    if mask is not None:
        visible = mask[:, None, None] if mask.dim() == 2 else mask[:, None]  # [B, 1, 1 or T, S]
        causal = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=visible & causal, enable_gqa=grouped)
    if T == 1:
        return _attend_one(q, k, v)
    causal_past = None if T == S else torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=causal_past, is_causal=T == S, enable_gqa=grouped)


def _attend_one(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One new token sees everything, so the G query heads of a group become G rows of one query: K and V are not
    repeated."""
    B, H, _, D = q.shape
    grouped = q.view(B, k.size(1), H // k.size(1), D)
    return F.scaled_dot_product_attention(grouped, k, v).view(B, H, 1, D)


class Attention(nn.Module):
    """Multi-head, grouped-query or multi-query attention, by `num_kv_heads`.

    Args:
        config: the model's shape.
        layer: index of this layer; the cache keeps K and V apart by it.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, config.head_dim
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
        attended: Tensor = self.o_proj(attend(q, k, v, mask).transpose(1, 2).flatten(2))
        return attended

    def _heads(self, x: Tensor) -> Tensor:  # [B, T, H * D] -> [B, H, T, D]
        return x.view(x.size(0), x.size(1), -1, self.head_dim).transpose(1, 2)
