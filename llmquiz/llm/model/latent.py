"""Multi-head latent attention: cache one small vector per token instead of keys and values for every head (DeepSeek-AI
2024, "DeepSeek-V2", section 2.1).

Keys and values are linear functions of a latent of R numbers, so only the latent is cached. RoPE is in the way: a
rotation that depends on the position cannot be folded into a matrix. So each key gets a second, short part that carries
the position, is turned before it is cached, and is shared by all heads: R + D_r numbers per token and layer, 512 + 64
in DeepSeek-V2, whatever the number of heads.

The same weights run in two forms. Expanded: rebuild K and V of every head from the latents, then attend as usual; right
for training and prefill. Absorbed: since q . (W c) = (W^T q) . c, move the up-projection to the query's side; then all
heads read the cached latents themselves, as multi-query attention with one wide head. Right for decoding, which would
otherwise rebuild the whole past at every step.

Shapes: B batch, T new tokens, S tokens attended, H heads, D head_dim without position and of the values, D_r with it,
R rank of the latent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmquiz.llm.cache.base import Cache
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.norms import RMSNorm
from llmquiz.llm.model.positions import RotaryEmbedding, rotate


@dataclass(frozen=True, slots=True)
class LatentConfig:
    """What is compressed: `rank` numbers for keys and values, `rope_dim` for the position, `query_rank` for the queries
    (which saves activations in training, and nothing in the cache); None leaves the queries whole."""

    rank: int = 512
    rope_dim: int = 64
    query_rank: int | None = None


def latent_cache_bytes(
    config: ModelConfig, latent: LatentConfig, tokens: int, *, batch: int = 1, itemsize: int = 2
) -> int:
    """Bytes of latents and rotary keys: L * (R + D_r) * T * B * itemsize. The number of heads does not appear."""
    return config.num_layers * (latent.rank + latent.rope_dim) * tokens * batch * itemsize


class LatentAttention(nn.Module):
    """Causal attention over cached latents; parameters carry the names of DeepSeek's checkpoints.

    Args:
        config: the model's shape; `head_dim` is D.
        latent: R, D_r and the queries' rank.
        layer: index of this layer in the cache.
    """

    def __init__(self, config: ModelConfig, latent: LatentConfig, layer: int = 0) -> None:
        super().__init__()
        hidden, heads, D, R = config.hidden_size, config.num_heads, config.head_dim, latent.rank
        self.layer, self.num_heads, self.head_dim, self.latent = layer, heads, D, latent
        queries = heads * (D + latent.rope_dim)
        if latent.query_rank is None:
            self.q_proj: nn.Module = nn.Linear(hidden, queries, bias=False)
        else:
            self.q_proj = nn.Sequential(
                nn.Linear(hidden, latent.query_rank, bias=False),
                RMSNorm(latent.query_rank, config.norm_eps),
                nn.Linear(latent.query_rank, queries, bias=False),
            )
        self.kv_a_proj_with_mqa = nn.Linear(hidden, R + latent.rope_dim, bias=False)
        self.kv_a_layernorm = RMSNorm(R, config.norm_eps)
        self.kv_b_proj = nn.Linear(R, heads * 2 * D, bias=False)  # a head's key rows, then its value rows
        self.o_proj = nn.Linear(heads * D, hidden, bias=False)
        self.rotary = RotaryEmbedding(replace(config, head_dim=latent.rope_dim))

    def forward(self, x: Tensor, cache: Cache | None = None, *, absorbed: bool = False) -> Tensor:
        """[B, T, hidden] -> same; new tokens see those in the cache and, causally, each other.

        A `GrowingCache` holds both parts: the latents [B, 1, S, R] in the place of keys, the rotary keys [B, 1, S, D_r]
        in that of values.

        Args:
            absorbed: attend in the space of the latents. The result is the same; the work is less for few new tokens
                and more for many.
        """
        rotation = self.rotary(0 if cache is None else cache.length, x)
        q = self.q_proj(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # [B, H, T, D + D_r]
        q, q_rope = q.split((self.head_dim, self.latent.rope_dim), dim=-1)
        q_rope = rotate(q_rope, *rotation)
        c, k_rope = self.kv_a_proj_with_mqa(x)[:, None].split((self.latent.rank, self.latent.rope_dim), dim=-1)
        c, k_rope = self.kv_a_layernorm(c), rotate(k_rope, *rotation)
        if cache is not None:
            c, k_rope = cache.update(self.layer, c, k_rope)
        attended = (self._absorbed if absorbed else self._expanded)(q, q_rope, c, k_rope)  # [B, H, T, D]
        out: Tensor = self.o_proj(attended.transpose(1, 2).flatten(2))
        return out

    def _expanded(self, q: Tensor, q_rope: Tensor, c: Tensor, k_rope: Tensor) -> Tensor:
        k, v = self.kv_b_proj(c[:, 0]).unflatten(-1, (self.num_heads, -1)).transpose(1, 2).chunk(2, dim=-1)
        k = torch.cat((k, k_rope.expand(-1, self.num_heads, -1, -1)), dim=-1)  # [B, H, S, D + D_r]
        return self._attend(torch.cat((q, q_rope), dim=-1), k, v)

    def _absorbed(self, q: Tensor, q_rope: Tensor, c: Tensor, k_rope: Tensor) -> Tensor:
        up_k, up_v = self.kv_b_proj.weight.view(self.num_heads, 2, self.head_dim, -1).unbind(1)  # [H, D, R] twice
        q = torch.cat((q @ up_k, q_rope), dim=-1)  # [B, H, T, R + D_r]
        k = torch.cat((c, k_rope), dim=-1)  # [B, 1, S, R + D_r]: one head for all
        return self._attend(q, k, c) @ up_v.mT  # [B, H, T, R] -> [B, H, T, D]

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The scale is that of a whole key, D + D_r, in both forms: an absorbed score is the same number."""
        T, S = q.size(2), k.size(2)
        causal = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T)
        scale = (self.head_dim + self.latent.rope_dim) ** -0.5
        grouped = k.size(1) != q.size(1)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=causal, scale=scale, enable_gqa=grouped)
