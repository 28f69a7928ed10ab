"""RoPE past the trained length: slow the turning pairs down, but not all of them alike.

A pair of features turns by its frequency at each position. Slow pairs never made a full turn in training, so beyond the
trained length they show angles that the model has never seen: that is what breaks. Fast pairs have shown every angle,
and carry what is near; slowing them too blurs neighbours. The methods differ in which pairs they slow:

    linear   all by the factor: no angle is new, neighbours are blurred (Chen et al. 2023, section 2.3)
    ntk      the fastest by 1, the slowest by the factor, geometrically between: a larger theta and nothing else
    dynamic  ntk, by as much as the present text needs: short texts stay exact, but the frequencies change with every
             token past the trained length, and keys in a cache were turned by earlier ones
    yarn     many turns in training: kept; less than one: by the factor; a ramp over the pairs between
             (Peng et al. 2023, section 3.2), and sharper scores
    llama3   the same idea, the ramp over the number of turns

Shapes: D head_dim; pairs i = 0 .. D/2 - 1 from fast to slow.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from llmquiz.llm.model.rope_scaling import RopeScaling


def stretch(frequencies: Tensor, theta: float, scaling: RopeScaling, length: int = 0) -> Tensor:  # [D/2] -> [D/2]
    """The frequencies under `scaling`; `length` is the present text's, in tokens, which only `dynamic` asks for."""
    if scaling.kind == "ntk":
        return _ntk(frequencies, scaling.factor)
    if scaling.kind == "dynamic":
        past = max(length, scaling.original_max_position) / scaling.original_max_position
        return _ntk(frequencies, scaling.factor * past - (scaling.factor - 1))
    slowed = frequencies / scaling.factor
    if scaling.kind == "linear":
        return slowed
    kept = (
        _kept_by_index(frequencies, theta, scaling) if scaling.kind == "yarn" else _kept_by_turns(frequencies, scaling)
    )
    return kept * frequencies + (1 - kept) * slowed


def _ntk(frequencies: Tensor, factor: float) -> Tensor:
    """theta * factor^(D / (D - 2)) in place of theta: pair i is slowed by factor^(i / (D/2 - 1))."""
    pairs = frequencies.numel()
    return frequencies / factor ** (torch.arange(pairs) / max(pairs - 1, 1))


def _kept_by_turns(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    turns = scaling.original_max_position * frequencies / (2 * math.pi)  # within the first training context
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    return ((turns - low) / (high - low)).clamp(0, 1)


def _kept_by_index(frequencies: Tensor, theta: float, scaling: RopeScaling) -> Tensor:
    pairs = frequencies.numel()

    def pair_with(turns: float) -> float:  # where the pair stands that makes so many turns: a real number
        return pairs * math.log(scaling.original_max_position / (2 * math.pi * turns)) / math.log(theta)

    first = max(math.floor(pair_with(scaling.high_frequency_factor)), 0)
    last = min(math.ceil(pair_with(scaling.low_frequency_factor)), 2 * pairs - 1)
    return 1 - ((torch.arange(pairs) - first) / max(last - first, 1e-3)).clamp(0, 1)
