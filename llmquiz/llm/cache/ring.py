"""A KV cache that forgets what a sliding window hides: W tokens of memory for a text of any length.

Token t stands in slot t mod W, so each new one overwrites the one that just left its window. A single new token needs
no order: attention is a sum over keys that carry their positions in themselves, and the W that are left are exactly
those it may see. Several at once do: the first of them still sees what the last will overwrite. So they get the past
W - 1 in order with the new behind, and the ring is written afterwards.

Only a model that was trained with a window may have one. Cut to its last W keys, a model with full attention loses the
first tokens, on which much of its attention rests, and breaks (Xiao et al. 2023, section 3.1).

Shapes: L layers, B batch, H_kv K/V heads, W window, D head_dim, T new tokens, S attended: at most W for T = 1, at most
W - 1 + T otherwise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmquiz.llm.cache.base import Cache
from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.config import ModelConfig


class RingCache(Cache):
    """The last `config.sliding_window` tokens of each of `batch` sequences.

    A mask of padding cannot reach tokens that were overwritten, so left-padded batches must be no longer than W.

    Args:
        config: the model's shape, with a sliding window.
        batch: B.
        dtype: of the keys and values, as the model computes them.
        device: where the model is.

    Raises:
        ModelError: if the model has no window.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        batch: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if config.sliding_window is None:
            raise ModelError("ring cache: the model attends to all tokens; use a growing, static or paged cache")
        self.window = config.sliding_window
        shape = (config.num_layers, batch, config.num_kv_heads, self.window, config.head_dim)
        self._keys = torch.zeros(shape, dtype=dtype, device=device)
        self._values = torch.zeros(shape, dtype=dtype, device=device)
        self._lengths = [0] * config.num_layers

    @property
    def length(self) -> int:
        """Tokens seen, remembered or not: the position of the next token."""
        return min(self._lengths)

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # [B, H_kv, T, D] -> [B, H_kv, S, D]
        """Remember the new keys and values of `layer`; return what they may attend, for T = 1 in any order."""
        start, T = self._lengths[layer], k.size(2)
        self._lengths[layer] = start + T
        keys, values = self._keys[layer], self._values[layer]
        if T == 1:
            slot, held = start % self.window, min(start + 1, self.window)
            keys[:, :, slot : slot + 1] = k
            values[:, :, slot : slot + 1] = v
            return keys[:, :, :held], values[:, :, :held]
        past = self._slots(start - min(start, self.window - 1), start)
        attended = torch.cat((keys[:, :, past], k), dim=2), torch.cat((values[:, :, past], v), dim=2)
        kept = min(T, self.window)
        new = self._slots(start + T - kept, start + T)
        keys[:, :, new], values[:, :, new] = k[:, :, -kept:], v[:, :, -kept:]
        return attended

    def reorder(self, rows: Tensor) -> None:
        self._keys, self._values = self._keys.index_select(1, rows), self._values.index_select(1, rows)

    def truncate(self, length: int) -> None:
        """Forget all tokens from position `length` on; past the window, only the last one can be taken back.

        Raises:
            ModelError: if fewer are remembered, or the window of the next token has been overwritten.
        """
        self._check_truncation(length)
        oldest = max(0, max(self._lengths) - self.window)
        if max(0, length - self.window + 1) < oldest:
            raise ModelError(
                f"ring cache: after {length} tokens the next one attends to some that were overwritten; the oldest "
                f"left is {oldest}: use a static cache to go back further"
            )
        self._lengths = [length] * len(self._lengths)

    def bytes(self) -> int:
        """Bytes of the keys and values remembered: those of min(length, W) tokens."""
        held = min(self.length, self.window)
        return self._keys[:, :, :, :held].nbytes + self._values[:, :, :, :held].nbytes

    def reserved_bytes(self) -> int:
        return self._keys.nbytes + self._values.nbytes

    def reset(self) -> None:
        self._lengths = [0] * len(self._lengths)

    def _slots(self, start: int, end: int) -> Tensor:  # [end - start]
        """Where the tokens of these positions stand."""
        return torch.arange(start, end, device=self._keys.device) % self.window
