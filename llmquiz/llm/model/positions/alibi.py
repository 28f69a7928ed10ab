"""ALiBi: no position vectors; a score loses `slope` for each token that lies between query and key (Press et al. 2022,
section 3).

Nothing is learned and no angle can be unknown, so a model trained this way reads texts longer than its training texts.
It is a choice made before training: switched on in a finished RoPE model, it only spoils the scores.

Shapes: H heads, T queries, S keys; query t stands at position S - T + t.
"""

from __future__ import annotations

import torch
from torch import Tensor


def alibi_slopes(num_heads: int) -> Tensor:  # [H]
    """2^(-8/H), 2^(-16/H), ... 2^-8: some heads look far, some near.

    That holds for H a power of two. Otherwise the H' heads of the next smaller power get theirs, and the rest take
    every other slope of 2H' heads, which lie between (as the authors' code does).
    """
    whole = 1 << (num_heads.bit_length() - 1)  # largest power of two <= H
    slopes = [2 ** (-8 * i / whole) for i in range(1, whole + 1)]
    between = [2 ** (-8 * i / (2 * whole)) for i in range(1, 2 * whole, 2)]
    return torch.tensor(slopes + between[: num_heads - whole])


def alibi_bias(slopes: Tensor, queries: int, keys: int) -> Tensor:  # [H] -> [H, T, S]
    """What is added to the scores: -slope * (position of the query - position of the key).

    Keys after the query get a bias too, which means nothing: a causal mask hides them.
    """
    positions = torch.arange(keys, device=slopes.device)
    distance = positions[keys - queries :, None] - positions  # [T, S]
    return -slopes[:, None, None] * distance
