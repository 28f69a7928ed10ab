"""What attention asks of a KV cache.

Each layer hands in the keys and values of the new tokens and gets back all that it may attend, past and new, in order.
A cache has a batch axis, refuses what does not fit rather than drop it, and counts its bytes from its own tensors.

Which one: `growing` where nothing is known, `static` where the longest text is, `ring` for a model with a sliding
window, `paged` where sequences come, go and share, `quantized` where memory is what runs out. All but the last give the
logits of recomputing.

Two things besides are asked of it by searches. Beam search keeps some rows of the batch, some of them twice, and drops
others; speculative decoding takes back tokens that were guessed wrongly.

Shapes: B batch, T new tokens, S tokens remembered after them, H_kv K/V heads, D head_dim.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from llmquiz.llm.errors import ModelError


class Cache(ABC):
    """Keys and values of past tokens, a pair of tensors a layer.

    Attributes:
        capacity: most tokens that it can hold; None if it grows.
        copied_bytes: bytes that were in the cache already and were moved to make room, since the last reset.
    """

    capacity: int | None = None
    copied_bytes: int = 0

    @property
    @abstractmethod
    def length(self) -> int:
        """Tokens that every layer has seen: the position of the next token."""

    @abstractmethod
    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # [B, H_kv, T, D] -> [B, H_kv, S, D]
        """Remember the new keys and values of `layer`; return what to attend.

        Raises:
            ModelError: if they do not fit.
        """

    @abstractmethod
    def reorder(self, rows: Tensor) -> None:  # [B']
        """Let row i go on as a copy of the present row `rows[i]`; rows that are not named are forgotten."""

    @abstractmethod
    def truncate(self, length: int) -> None:
        """Forget all tokens from position `length` on.

        Raises:
            ModelError: if fewer are remembered, or what would be needed has been dropped.
        """

    @abstractmethod
    def bytes(self) -> int:
        """Bytes of the keys and values remembered: 2 * L * H_kv * D * length * B * itemsize, where each token is kept,
        once, as it came."""

    @abstractmethod
    def reserved_bytes(self) -> int:
        """Bytes of memory held for them, used or not."""

    @abstractmethod
    def reset(self) -> None:
        """Forget every token; keep the memory where that makes sense."""

    def _check_truncation(self, length: int) -> None:
        if not 0 <= length <= self.length:
            raise ModelError(f"cache: cannot go back to {length} tokens, it holds {self.length}")
