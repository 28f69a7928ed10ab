"""The simplest KV cache: concatenate.

Every new token allocates a tensor one longer and copies all that was there: T tokens one at a time move about T^2 / 2
rows. That is small beside recomputing them, and it is what `static.py` avoids.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmquiz.llm.cache.base import Cache
from llmquiz.llm.model.config import ModelConfig


class GrowingCache(Cache):
    """As long as it must be, and no longer."""

    def __init__(self, config: ModelConfig) -> None:
        self._pairs: list[tuple[Tensor, Tensor] | None] = [None] * config.num_layers

    @property
    def length(self) -> int:
        return min(0 if pair is None else pair[0].size(2) for pair in self._pairs)

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # [B, H_kv, T, D] -> [B, H_kv, S, D]
        past = self._pairs[layer]
        if past is not None:
            self.copied_bytes += past[0].nbytes + past[1].nbytes
            k, v = torch.cat((past[0], k), dim=2), torch.cat((past[1], v), dim=2)
        self._pairs[layer] = (k, v)
        return k, v

    def reorder(self, rows: Tensor) -> None:
        self._pairs = [pair and (pair[0].index_select(0, rows), pair[1].index_select(0, rows)) for pair in self._pairs]

    def truncate(self, length: int) -> None:
        self._check_truncation(length)
        self._pairs = [pair and (pair[0][:, :, :length], pair[1][:, :, :length]) for pair in self._pairs]

    def bytes(self) -> int:
        return sum(k.nbytes + v.nbytes for k, v in filter(None, self._pairs))

    def reserved_bytes(self) -> int:
        return self.bytes()

    def reset(self) -> None:
        self._pairs = [None] * len(self._pairs)
        self.copied_bytes = 0
