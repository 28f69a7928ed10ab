"""Absolute positions: a vector for each place in the text, added to the token that stands there.

The vector belongs to the time axis. A table sliced by the wrong axis still runs: every token of a row then gets the
same vector, rows of a batch get different ones, and the model has no order at all. And it belongs to the token's true
place: while decoding with a cache the one new token stands at `offset`, not at 0.

Shapes: B batch, T tokens, D hidden_size, P max_position.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmquiz.llm.errors import ModelError


def sinusoids(length: int, hidden_size: int) -> Tensor:  # [T, D]
    """PE(t, 2i) = sin(t / 10000^(2i/D)), PE(t, 2i+1) = cos of the same (Vaswani et al. 2017, section 3.5).

    Pairs of features are the hands of clocks from fast to slow; an odd width ends on a sine without its cosine.
    """
    pairs = torch.arange(0, hidden_size, 2, dtype=torch.float32)
    angles = torch.outer(torch.arange(length, dtype=torch.float32), 10_000.0 ** (-pairs / hidden_size))
    table = torch.empty(length, hidden_size)
    table[:, 0::2] = angles.sin()
    table[:, 1::2] = angles.cos()[:, : hidden_size // 2]
    return table


class _AbsolutePositions(nn.Module):
    """x + table[offset : offset + T], the same for every row of the batch."""

    table: Tensor  # [P, D]

    def forward(self, x: Tensor, offset: int = 0) -> Tensor:  # [B, T, D] -> [B, T, D]
        """Tokens at offset .. offset + T - 1.

        Raises:
            ModelError: if they stand past the last position of the table.
        """
        end = offset + x.size(1)
        if end > self.table.size(0):
            raise ModelError(f"positions: {end} tokens exceed the table's {self.table.size(0)}; shorten the text")
        return x + self.table[offset:end].to(x.dtype)


class SinusoidalPositions(_AbsolutePositions):
    """Fixed waves: nothing to train, and not part of a checkpoint.

    Args:
        max_position: P, the most tokens of a text.
        hidden_size: D; may be odd.
    """

    def __init__(self, max_position: int, hidden_size: int) -> None:
        super().__init__()
        self.register_buffer("table", sinusoids(max_position, hidden_size), persistent=False)


class LearnedPositions(_AbsolutePositions):
    """A trained vector for each position (BERT, GPT-2): a position that training never reached holds noise.

    They start as loud as the sinusoids, whose mean square is 1/2.

    Args:
        max_position: P, the most tokens of a text.
        hidden_size: D.
    """

    def __init__(self, max_position: int, hidden_size: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(max_position, hidden_size) * 0.5**0.5)
