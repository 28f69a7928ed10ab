"""What a config says of a RoPE model that reads further than it was first trained.

`max_position_embeddings` does not mean the same in all of them. Under `yarn` and `llama3` it is the stretched reach,
and `original_max_position_embeddings` is where the first training ended; under `dynamic` it is where training ended,
and the model reads `factor` times as far. How the frequencies change stands in `positions/stretch.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmquiz.llm.errors import ModelError

KINDS = ("linear", "ntk", "dynamic", "yarn", "llama3")
READ = ("default", "linear", "dynamic", "yarn", "llama3")  # what a config.json may name; `ntk` is a larger theta there


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How a RoPE model is stretched.

    Attributes:
        kind: linear (position interpolation, Chen et al. 2023), ntk (a larger theta), dynamic (ntk that grows with the
            text), yarn (Peng et al. 2023) or llama3 (Llama 3.1's release).
        factor: how many times further than trained.
        low_frequency_factor: of yarn and llama3: pairs that make at most so many turns within the first training
            context are interpolated (YaRN's beta slow).
        high_frequency_factor: those that make at least so many are kept (YaRN's beta fast).
        original_max_position: tokens of the first training context; all but linear and ntk need it.
        attention_factor: of yarn: the cosines and sines are multiplied by it, so the scores by its square.

    Raises:
        ModelError: if the kind is unknown or the factor is below 1.
    """

    kind: str
    factor: float
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_max_position: int = 8192
    attention_factor: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ModelError(f"rope scaling: {self.kind!r} is not one of {', '.join(KINDS)}")
        if not self.factor >= 1:
            raise ModelError(f"rope scaling: factor {self.factor} is below 1; it says how many times further")


def yarn(factor: float, original_max_position: int, *, slow: float = 1.0, fast: float = 32.0) -> RopeScaling:
    """YaRN with the paper's constants."""
    return RopeScaling("yarn", factor, slow, fast, original_max_position, yarn_attention_factor(factor))


def yarn_attention_factor(factor: float, mscale: float = 1.0) -> float:
    """sqrt(1/t) = 0.1 ln(factor) + 1: a longer text spreads the softmax over more keys, and sharper scores make up for
    it (Peng et al. 2023, section 3.4)."""
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0


def read_scaling(rope: Mapping[str, Any], max_position: int) -> tuple[RopeScaling | None, int]:
    """The stretching that a config's `rope_parameters` or `rope_scaling` names, and how many tokens the model reads.

    Raises:
        ModelError: if the kind is not one of `READ`, or it lacks a number.
    """
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in READ:
        raise ModelError(f"config: rope type {kind!r} is not one of {', '.join(READ)}; choose another model")
    if kind == "default":
        return None, max_position
    try:
        return _read(kind, rope, max_position)
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"config: rope type {kind!r} lacks a number ({error}); look at the model's config.json"
        ) from error


def _read(kind: str, rope: Mapping[str, Any], max_position: int) -> tuple[RopeScaling, int]:
    if kind == "linear":
        return RopeScaling(kind, rope["factor"]), max_position
    if kind == "dynamic":
        scaling = RopeScaling(kind, rope["factor"], original_max_position=max_position)
        return scaling, int(max_position * scaling.factor)
    original = rope["original_max_position_embeddings"]
    if kind == "llama3":
        return RopeScaling(
            kind, rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"], original
        ), max_position
    if not rope.get("truncate", True):
        raise ModelError("config: yarn with 'truncate': false is not supported; choose another model")
    factor = rope.get("factor") or max_position / original
    attention = rope.get("attention_factor") or _ratio(factor, rope.get("mscale"), rope.get("mscale_all_dim"))
    slow, fast = rope.get("beta_slow") or 1.0, rope.get("beta_fast") or 32.0
    return RopeScaling(kind, factor, slow, fast, original, attention), max_position


def _ratio(factor: float, mscale: float | None, all_dim: float | None) -> float:
    """DeepSeek splits the sharpening: a part of it is in the softmax's own scale, and is divided out here."""
    if mscale and all_dim:
        return yarn_attention_factor(factor, mscale) / yarn_attention_factor(factor, all_dim)
    return yarn_attention_factor(factor)
