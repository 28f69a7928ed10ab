"""Shapes of published models, from their config.json, and GPUs, from their makers' datasheets.

A datasheet's large number is often the one with 2:4 sparsity; these are the dense ones, of tensor cores with 16-bit
inputs. On GeForce cards they hold for fp32 accumulation, which halves the advertised rate.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from llmquiz.calc.config import read_shape
from llmquiz.calc.errors import CalcError
from llmquiz.calc.shape import Experts, Latent, Shape

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Gpu:
    """Memory in bytes, bandwidth in bytes/s, dense 16-bit FLOP/s."""

    name: str
    memory: float
    bandwidth: float
    flops: float


def _llama(
    name: str, vocabulary: int, hidden: int, layers: int, heads: int, kv: int, width: int, *, tied: bool = False
) -> Shape:
    return Shape(name, vocabulary, hidden, layers, heads, kv, hidden // heads, width, tied=tied)


def _qwen2(name: str, hidden: int, layers: int, heads: int, kv: int, width: int, *, padded: int = 152_064) -> Shape:
    tied = padded == 151_936
    return Shape(name, padded, hidden, layers, heads, kv, 128 if hidden > 896 else 64, width, tied=tied, qkv_bias=True)


def _qwen3(name: str, hidden: int, layers: int, heads: int, kv: int, width: int, *, tied: bool = False) -> Shape:
    return Shape(name, 151_936, hidden, layers, heads, kv, 128, width, tied=tied, qk_norm=True)


def _qwen3_moe(name: str, hidden: int, layers: int, heads: int, expert_width: int) -> Shape:
    experts = Experts(128, 8, expert_width)
    return Shape(name, 151_936, hidden, layers, heads, 4, 128, 0, qk_norm=True, experts=experts)


def _gpt(name: str, hidden: int, layers: int, heads: int, positions: int) -> Shape:
    return Shape(
        name,
        50_257,
        hidden,
        layers,
        heads,
        heads,
        hidden // heads,
        4 * hidden,
        tied=True,
        gated=False,
        biases=True,
        learned_positions=positions,
    )


_SHAPES = (
    _llama("llama-2-7b", 32_000, 4096, 32, 32, 32, 11_008),
    _llama("llama-2-13b", 32_000, 5120, 40, 40, 40, 13_824),
    _llama("llama-2-70b", 32_000, 8192, 80, 64, 8, 28_672),
    _llama("llama-3-8b", 128_256, 4096, 32, 32, 8, 14_336),
    _llama("llama-3-70b", 128_256, 8192, 80, 64, 8, 28_672),
    _llama("llama-3.1-405b", 128_256, 16_384, 126, 128, 8, 53_248),
    _llama("llama-3.2-1b", 128_256, 2048, 16, 32, 8, 8192, tied=True),
    _llama("llama-3.2-3b", 128_256, 3072, 28, 24, 8, 8192, tied=True),
    _llama("mistral-7b", 32_000, 4096, 32, 32, 8, 14_336),
    Shape("mixtral-8x7b", 32_000, 4096, 32, 32, 8, 128, 0, experts=Experts(8, 2, 14_336)),
    _qwen2("qwen2.5-0.5b", 896, 24, 14, 2, 4864, padded=151_936),
    _qwen2("qwen2.5-1.5b", 1536, 28, 12, 2, 8960, padded=151_936),
    _qwen2("qwen2.5-3b", 2048, 36, 16, 2, 11_008, padded=151_936),
    _qwen2("qwen2.5-7b", 3584, 28, 28, 4, 18_944),
    _qwen2("qwen2.5-14b", 5120, 48, 40, 8, 13_824),
    _qwen2("qwen2.5-32b", 5120, 64, 40, 8, 27_648),
    _qwen2("qwen2.5-72b", 8192, 80, 64, 8, 29_568),
    _qwen3("qwen3-0.6b", 1024, 28, 16, 8, 3072, tied=True),
    _qwen3("qwen3-1.7b", 2048, 28, 16, 8, 6144, tied=True),
    _qwen3("qwen3-4b", 2560, 36, 32, 8, 9728, tied=True),
    _qwen3("qwen3-8b", 4096, 36, 32, 8, 12_288),
    _qwen3("qwen3-14b", 5120, 40, 40, 8, 17_408),
    _qwen3("qwen3-32b", 5120, 64, 64, 8, 25_600),
    _qwen3_moe("qwen3-30b-a3b", 2048, 48, 32, 768),
    _qwen3_moe("qwen3-235b-a22b", 4096, 94, 64, 1536),
    Shape(
        "deepseek-v3",
        129_280,
        7168,
        61,
        128,
        128,
        192,
        18_432,
        experts=Experts(256, 8, 2048, shared=1, dense_layers=3, router_bias=True),
        latent=Latent(rank=512, rope_dim=64, nope_dim=128, value_dim=128, query_rank=1536),
    ),
    _gpt("gpt-2", 768, 12, 12, 1024),
    _gpt("gpt-2-xl", 1600, 48, 25, 1024),
    _gpt("gpt-3-175b", 12_288, 96, 96, 2048),
)
BASE = "llmquiz-base"  # the model that is shipped: read from its own config.json
SHAPES = {shape.name: shape for shape in _SHAPES}

GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("a100-40g", 40e9, 1555e9, 312e12),
        Gpu("a100", 80e9, 2039e9, 312e12),
        Gpu("h100", 80e9, 3350e9, 989e12),
        Gpu("h200", 141e9, 4800e9, 989e12),
        Gpu("l4", 24e9, 300e9, 121e12),
        Gpu("l40s", 48e9, 864e9, 362e12),
        Gpu("rtx-3090", 24e9, 936e9, 71e12),
        Gpu("rtx-4090", 24e9, 1008e9, 165e12),
        Gpu("t4", 16e9, 320e9, 65e12),
    )
}


def find_shape(name: str) -> Shape:
    """The shape of a preset.

    Raises:
        CalcError: if there is none of that name.
    """
    if name.strip().lower() == BASE:
        return replace(read_shape(Path(__file__).parents[1] / "llm" / "base"), name=BASE)
    return _find(name, SHAPES, "model", "or give --config config.json")


def find_gpu(name: str) -> Gpu:
    """The figures of a GPU.

    Raises:
        CalcError: if there is none of that name.
    """
    return _find(name, GPUS, "GPU", "or give --gpu-memory, --bandwidth and --tflops")


def _find(name: str, known: Mapping[str, T], what: str, otherwise: str) -> T:
    key = name.strip().lower()
    if key in known:
        return known[key]
    close = difflib.get_close_matches(key, known, n=3, cutoff=0.5) or list(known)
    raise CalcError(f"{what} '{name[:60]}' is not known; try {', '.join(close)} {otherwise}")
