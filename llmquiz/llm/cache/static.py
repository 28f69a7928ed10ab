"""A KV cache that is allocated once: a token writes its row and moves nothing.

The price is memory for `capacity` tokens from the first one on, whether they come or not. Writing past the end would
lose tokens without a sign, so it is an error.

Shapes: L layers, B batch, H_kv K/V heads, C capacity, D head_dim, T new tokens, S remembered after them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmquiz.llm.cache.base import Cache
from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.config import ModelConfig


class StaticCache(Cache):
    """Room for `capacity` tokens of each of `batch` sequences.

    Args:
        config: the model's shape.
        capacity: C, in tokens.
        batch: B.
        dtype: of the keys and values, as the model computes them.
        device: where the model is.
    """

    capacity: int

    def __init__(
        self,
        config: ModelConfig,
        capacity: int,
        *,
        batch: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (config.num_layers, batch, config.num_kv_heads, capacity, config.head_dim)
        self.capacity = capacity
        self._keys = torch.zeros(shape, dtype=dtype, device=device)
        self._values = torch.zeros(shape, dtype=dtype, device=device)
        self._lengths = [0] * config.num_layers

    @property
    def length(self) -> int:
        return min(self._lengths)

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # [B, H_kv, T, D] -> [B, H_kv, S, D]
        start = self._lengths[layer]
        end = start + k.size(2)
        if end > self.capacity:
            raise ModelError(
                f"static cache: {end} tokens exceed its capacity of {self.capacity}; allocate a larger one"
            )
        keys, values = self._keys[layer], self._values[layer]
        keys[:, :, start:end] = k
        values[:, :, start:end] = v
        self._lengths[layer] = end
        return keys[:, :, :end], values[:, :, :end]

    def reorder(self, rows: Tensor) -> None:
        self._keys, self._values = self._keys.index_select(1, rows), self._values.index_select(1, rows)

    def truncate(self, length: int) -> None:
        self._check_truncation(length)
        self._lengths = [length] * len(self._lengths)

    def bytes(self) -> int:
        used = self.length
        return self._keys[:, :, :, :used].nbytes + self._values[:, :, :, :used].nbytes

    def reserved_bytes(self) -> int:
        return self._keys.nbytes + self._values.nbytes

    def reset(self) -> None:
        self._lengths = [0] * len(self._lengths)
