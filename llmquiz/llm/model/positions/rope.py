"""Rotary position embedding: turn each pair of a query's and a key's features by an angle that grows with the position
(Su et al. 2021, section 3.2).

The score of a query at m and a key at n then depends on m - n alone. Keys are cached after they were turned, so a
cached key never needs its position again; but a new token must be turned by its true position, not by 0: forgetting the
offset is the usual fault of a first KV cache.

Shapes: T positions, D head_dim. Feature i is paired with i + D/2, as in Llama's released weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.positions.stretch import stretch


def rope_frequencies(config: ModelConfig, length: int = 0) -> Tensor:  # [D/2]
    """Radians per position of each pair, fast to slow: theta^(-2i/D), stretched as the config says for a text of
    `length` tokens."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device="cpu") / config.head_dim
    frequencies = 1.0 / config.rope_theta**exponents
    if config.rope_scaling is None:
        return frequencies
    return stretch(frequencies, config.rope_theta, config.rope_scaling, length)


def rotate(x: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:  # [B, H, T, D] -> [B, H, T, D]
    """Turn pairs (x_i, x_{i+D/2}). Rolling by D/2 swaps the halves; the minus sign of (-x2, x1) stands in the table."""
    return torch.addcmul(x * cos, x.roll(x.size(-1) // 2, dims=-1), signed_sin)


class RotaryEmbedding(nn.Module):
    """Tables of cosines and signed sines, made when first needed and doubled when outgrown."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self._tables: tuple[Tensor, Tensor] | None = None
        self._stretched_for = 0  # tokens; stays 0 unless the frequencies depend on the text's length

    def forward(
        self, start: int, x: Tensor, positions: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:  # [B, T, hidden] -> [T, D] twice, or [B, 1, T, D] with positions
        """The rotation of positions start .. start + T - 1, in the dtype and on the device of `x`.

        With `positions` [B, T] each row has its own: padding on the left shifts a text, packing restarts each document
        at 0.
        """
        end = start + x.size(1)
        needed = end if positions is None else max(end, self.config.max_position)
        scaling = self.config.rope_scaling
        if scaling is not None and scaling.kind == "dynamic":
            reach = end if end > scaling.original_max_position else 0
            if reach != self._stretched_for:
                self._tables, self._stretched_for = None, reach
        cos, sin = self._tables or self._build(needed, x)
        if cos.size(0) < needed or cos.dtype != x.dtype or cos.device != x.device:
            cos, sin = self._build(needed, x)
        if positions is not None:
            return cos[positions][:, None], sin[positions][:, None]
        return cos[start:end], sin[start:end]

    def _build(self, end: int, x: Tensor) -> tuple[Tensor, Tensor]:
        length = max(256, 1 << (end - 1).bit_length())
        with torch.inference_mode(False):  # tables made while decoding must serve training too
            frequencies = rope_frequencies(self.config, self._stretched_for)
            angles = torch.outer(torch.arange(length, dtype=torch.float32), frequencies)  # [T, D/2]
            scaling = self.config.rope_scaling
            sharper = 1.0 if scaling is None else scaling.attention_factor  # on queries and keys, so twice on scores
            cos, sin = angles.cos() * sharper, angles.sin() * sharper
            self._tables = (
                torch.cat((cos, cos), dim=-1).to(x.device, x.dtype),
                torch.cat((-sin, sin), dim=-1).to(x.device, x.dtype),
            )
        return self._tables
