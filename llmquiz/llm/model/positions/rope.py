"""Rotary position embedding: turn each pair of a query's and a key's features by an angle that grows with the position
(Su et al. 2021, section 3.2).

The score of a query at m and a key at n then depends on m - n alone. Keys are cached after they were turned, so a
cached key never needs its position again; but a new token must be turned by its true position, not by 0: forgetting the
offset is the usual fault of a first KV cache.

Shapes: T positions, D head_dim. Feature i is paired with i + D/2, as in Llama's released weights.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from llmquiz.llm.model.config import ModelConfig, RopeScaling


def rope_frequencies(config: ModelConfig) -> Tensor:  # [D/2]
    """Radians per position of each pair, fast to slow: theta^(-2i/D)."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device="cpu") / config.head_dim
    frequencies = 1.0 / config.rope_theta**exponents
    return frequencies if config.rope_scaling is None else _stretched(frequencies, config.rope_scaling)


def _stretched(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    slowed = frequencies / scaling.factor
    if scaling.kind == "linear":
        return slowed
    turns = scaling.original_max_position * frequencies / (2 * math.pi)  # full turns within the first training context
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return kept * frequencies + (1 - kept) * slowed


def rotate(x: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:  # [B, H, T, D] -> [B, H, T, D]
    """Turn pairs (x_i, x_{i+D/2}). Rolling by D/2 swaps the halves; the minus sign of (-x2, x1) stands in the table."""
    return torch.addcmul(x * cos, x.roll(x.size(-1) // 2, dims=-1), signed_sin)


class RotaryEmbedding(nn.Module):
    """Tables of cosines and signed sines, made when first needed and doubled when outgrown."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self._tables: tuple[Tensor, Tensor] | None = None

    def forward(
        self, start: int, x: Tensor, positions: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:  # [B, T, hidden] -> [T, D] twice, or [B, 1, T, D] with positions
        """The rotation of positions start .. start + T - 1, in the dtype and on the device of `x`.

        With `positions` [B, T] each row has its own: padding on the left shifts a text, packing restarts each document
        at 0.
        """
        end = start + x.size(1)
        needed = end if positions is None else max(end, self.config.max_position)
        cos, sin = self._tables or self._build(needed, x)
        if cos.size(0) < needed or cos.dtype != x.dtype or cos.device != x.device:
            cos, sin = self._build(needed, x)
        if positions is not None:
            return cos[positions][:, None], sin[positions][:, None]
        return cos[start:end], sin[start:end]

    def _build(self, end: int, x: Tensor) -> tuple[Tensor, Tensor]:
        length = max(256, 1 << (end - 1).bit_length())
        with torch.inference_mode(False):  # tables made while decoding must serve training too
            angles = torch.outer(torch.arange(length, dtype=torch.float32), rope_frequencies(self.config))  # [T, D/2]
            cos, sin = angles.cos(), angles.sin()
            self._tables = (
                torch.cat((cos, cos), dim=-1).to(x.device, x.dtype),
                torch.cat((-sin, sin), dim=-1).to(x.device, x.dtype),
            )
        return self._tables
