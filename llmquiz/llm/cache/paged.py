"""A KV cache in blocks: no token has a place of its own until it comes (PagedAttention, Kwon et al. 2023).

A static cache reserves the longest sequence for every sequence. This one takes blocks of a common pool when they are
needed and finds them through a table, as virtual memory does. It saves neither arithmetic nor bytes a token, only what
would be reserved and never used, and what sequences have in common: a fork, or a beam that splits, copies a table of
numbers and shares the keys and values, until one of them writes (see `blocks.py`).

An engine's kernel reads the blocks where they lie. torch has no such kernel, so here a step gathers them first.

Shapes: L layers, B sequences, H_kv K/V heads, D head_dim, T new tokens, S remembered after them, N slots of the pool.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmquiz.llm.cache.base import Cache
from llmquiz.llm.cache.blocks import BlockPool, BlockTable
from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.config import ModelConfig


class PagedCache(Cache):
    """Room for `num_blocks * block_size` tokens of however many sequences the first update brings.

    Args:
        config: the model's shape.
        num_blocks: blocks of the pool; each holds the keys and values of all layers.
        block_size: tokens a block.
        dtype: of the keys and values, as the model computes them.
        device: where the model is.
    """

    def __init__(
        self,
        config: ModelConfig,
        num_blocks: int,
        *,
        block_size: int = 16,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.pool = BlockPool(num_blocks, block_size)
        shape = (config.num_layers, num_blocks * block_size, config.num_kv_heads, config.head_dim)  # [L, N, H_kv, D]
        self._keys = torch.zeros(shape, dtype=dtype, device=device)
        self._values = torch.zeros(shape, dtype=dtype, device=device)
        self._tables: list[BlockTable] = []
        self._slots = torch.empty(0, 0, dtype=torch.long, device=device)  # [B, S and the rest of the last block]
        self._lengths = [0] * config.num_layers

    @property
    def length(self) -> int:
        return min(self._lengths)

    @property
    def utilization(self) -> float:
        """Tokens remembered over the slots of the blocks that are taken; 1 if none is."""
        return self._filled() / (self.pool.num_taken * self.pool.block_size) if self.pool.num_taken else 1.0

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # [B, H_kv, T, D] -> [B, H_kv, S, D]
        start = self._lengths[layer]
        end = start + k.size(2)
        if not self._tables or end > self._tables[0].length:  # the first layer makes room for all of them
            self._extend(k.size(0), k.size(2))
        new, attended = self._slots[:, start:end], self._slots[:, :end]
        keys, values = self._keys[layer], self._values[layer]  # [N, H_kv, D]
        keys[new], values[new] = k.transpose(1, 2), v.transpose(1, 2)
        self._lengths[layer] = end
        return keys[attended].transpose(1, 2), values[attended].transpose(1, 2)

    def reorder(self, rows: Tensor) -> None:
        if not self._tables:  # the first update says how many sequences there are
            return
        kept = [self.pool.fork(self._tables[row]) for row in rows.tolist()]
        self._end_all()
        self._tables, self._slots = kept, self._slots.index_select(0, rows)

    def truncate(self, length: int) -> None:
        self._check_truncation(length)
        for table in self._tables:
            self.pool.truncate(table, length)
        self._lengths = [length] * len(self._lengths)

    def bytes(self) -> int:
        """Bytes of the keys and values remembered; what sequences share counts once."""
        return self._filled() * (self._keys[:, :1].nbytes + self._values[:, :1].nbytes)

    def reserved_bytes(self) -> int:
        """Bytes of the pool."""
        return self._keys.nbytes + self._values.nbytes

    def reset(self) -> None:
        self._end_all()
        self._tables = []
        self._lengths = [0] * len(self._lengths)
        self.copied_bytes = 0

    def _extend(self, sequences: int, tokens: int) -> None:
        """Give each sequence room for `tokens` more, or none of them and raise."""
        tables = self._tables or [BlockTable() for _ in range(sequences)]
        if len(tables) != sequences:
            raise ModelError(f"paged cache: it holds {len(tables)} sequences and was fed {sequences}; reset it first")
        copies = self.pool.extend(tables, tokens)
        self._tables = tables
        if copies:
            self._copy(*zip(*copies, strict=True))
        size, device = self.pool.block_size, self._slots.device
        blocks = torch.tensor([table.blocks for table in tables], device=device)  # all have as many
        self._slots = (blocks[:, :, None] * size + torch.arange(size, device=device)).flatten(1)

    def _copy(self, sources: tuple[int, ...], targets: tuple[int, ...]) -> None:
        """Copy whole blocks, of every layer."""
        for tensor in (self._keys, self._values):
            blocks = tensor.view(tensor.size(0), self.pool.num_blocks, self.pool.block_size, *tensor.shape[2:])
            moved = blocks[:, list(sources)]
            blocks[:, list(targets)] = moved
            self.copied_bytes += moved.nbytes

    def _filled(self) -> int:
        """Slots with a token that every layer has seen."""
        size, length = self.pool.block_size, self.length
        held = {block: i for table in self._tables for i, block in enumerate(table.blocks)}
        return sum(max(0, min(size, length - i * size)) for i in held.values())

    def _end_all(self) -> None:
        for table in self._tables:
            self.pool.truncate(table, 0)
