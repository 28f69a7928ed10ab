"""Multi-head attention as a module of its own: to the same tokens or to others (Vaswani et al. 2017, section 3.2.2).

Queries come from the tokens that ask, keys and values from the context that is read; in self-attention both are the
same. So the scores of cross-attention are T x S, not square, and a mask of padding belongs to the context. Several
heads cost no more than one as wide: the projections are the same size. What they buy is several patterns at once.

Shapes: B batch, T tokens that ask, S tokens of the context, H query heads, H_kv K/V heads, D head_dim.
"""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor, nn
from torch.nn import functional as F

from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.attention import attention_weights, visibility
from llmquiz.llm.model.positions.rope import rotate

Rotation: TypeAlias = tuple[Tensor, Tensor]


class MultiHeadAttention(nn.Module):
    """Attention with H heads; grouped-query with fewer K/V heads, multi-query with one.

    Args:
        hidden_size: width of the tokens, and of the context.
        num_heads: H.
        num_kv_heads: H_kv; H if not given.
        head_dim: D; hidden_size / H if not given.
        bias: whether the four projections have one.

    Raises:
        ModelError: if the heads do not divide the width, or cannot share the K/V heads evenly.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        num_kv_heads = num_kv_heads or num_heads
        if num_heads % num_kv_heads:
            raise ModelError(f"attention: {num_heads} query heads cannot share {num_kv_heads} K/V heads evenly")
        if head_dim is None and hidden_size % num_heads:
            raise ModelError(f"attention: width {hidden_size} is not a multiple of {num_heads} heads; give head_dim")
        self.head_dim = head_dim or hidden_size // num_heads
        self.q_proj = nn.Linear(hidden_size, num_heads * self.head_dim, bias=bias)
        self.k_proj = nn.Linear(hidden_size, num_kv_heads * self.head_dim, bias=bias)
        self.v_proj = nn.Linear(hidden_size, num_kv_heads * self.head_dim, bias=bias)
        self.o_proj = nn.Linear(num_heads * self.head_dim, hidden_size, bias=bias)

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        causal: bool = False,
        mask: Tensor | None = None,
        rotation: Rotation | None = None,
        score_bias: Tensor | None = None,
    ) -> Tensor:  # [B, T, hidden], [B, S, hidden] -> [B, T, hidden]
        """Let `x` read `context`, or itself.

        Args:
            mask: True where the context may be read: [B, S] or [B, T, S]. A token that may read nothing gets zeros
                (then the output projection's bias).
            rotation: of RoPE, for queries and keys.
            score_bias: of ALiBi, broadcastable to [B, H, T, S].
        """
        keys, values = self.keys_values(x if context is None else context, rotation)
        return self.read(x, keys, values, causal=causal, mask=mask, rotation=rotation, score_bias=score_bias)

    def keys_values(self, context: Tensor, rotation: Rotation | None = None) -> tuple[Tensor, Tensor]:
        """What there is to read, [B, H_kv, S, D] twice. Fixed as long as the context is: compute once, and keep."""
        keys, values = self._heads(self.k_proj(context)), self._heads(self.v_proj(context))
        return (rotate(keys, *rotation) if rotation else keys), values

    def read(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        *,
        causal: bool = False,
        mask: Tensor | None = None,
        rotation: Rotation | None = None,
        score_bias: Tensor | None = None,
    ) -> Tensor:  # [B, T, hidden], [B, H_kv, S, D] twice -> [B, T, hidden]
        """As `forward`, from keys and values that are there already."""
        q = self._heads(self.q_proj(x))
        q = rotate(q, *rotation) if rotation else q
        visible = visibility(x.size(1), keys.size(2), causal=causal, mask=mask, device=x.device)
        if score_bias is not None:
            visible = score_bias if visible is None else score_bias.masked_fill(~visible, float("-inf"))
        grouped = q.size(1) != keys.size(1)
        heads = F.scaled_dot_product_attention(q, keys, values, attn_mask=visible, enable_gqa=grouped)
        attended: Tensor = self.o_proj(heads.transpose(1, 2).flatten(2))
        return attended

    def weights(
        self, x: Tensor, context: Tensor | None = None, *, causal: bool = False, mask: Tensor | None = None
    ) -> Tensor:  # [B, T, hidden], [B, S, hidden] -> [B, H, T, S]
        """How much each token reads of each: to look at, since the fused kernel never shows them."""
        keys, _ = self.keys_values(x if context is None else context)
        visible = visibility(x.size(1), keys.size(2), causal=causal, mask=mask, device=x.device)
        return attention_weights(self._heads(self.q_proj(x)), keys, visible)

    def _heads(self, x: Tensor) -> Tensor:  # [B, T, H * D] -> [B, H, T, D]
        return x.view(x.size(0), x.size(1), -1, self.head_dim).transpose(1, 2)
