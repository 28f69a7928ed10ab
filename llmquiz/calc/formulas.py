"""The laws, as functions of plain numbers. `b` and `bytes_each` are bytes of one number, rates are per second.

The one thing people get wrong is which heads count: the cache has K/V heads, the scores have query heads, and neither
times `head_dim` need be the hidden size. A card's `check` may call every function in `CHECKED` by its name.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from llmquiz.calc.errors import CalcError

Number = int | float


def kv_cache_bytes(
    layers: Number, kv_heads: Number, head_dim: Number, tokens: Number, bytes_each: Number = 2
) -> Number:
    """2 · L · H_kv · D · T · b: a key and a value of each token, in each layer and K/V head."""
    _positive(layers=layers, kv_heads=kv_heads, head_dim=head_dim, tokens=tokens, bytes_each=bytes_each)
    return 2 * layers * kv_heads * head_dim * tokens * bytes_each


def mla_cache_bytes(layers: Number, rank: Number, rope_dim: Number, tokens: Number, bytes_each: Number = 2) -> Number:
    """L · (rank + rope dim) · T · b: one latent and one rotated key, shared by all heads (DeepSeek-V2, section 2.1)."""
    _positive(layers=layers, rank=rank, rope_dim=rope_dim, tokens=tokens, bytes_each=bytes_each)
    return layers * (rank + rope_dim) * tokens * bytes_each


def zero_bytes(parameters: Number, gpus: Number, stage: Number) -> Number:
    """Bytes a GPU holds of weights, gradients and Adam's state in mixed precision (ZeRO, Rajbhandari et al. 2020,
    section 3.1): 16, then 4 + 12/n, 2 + 14/n and 16/n for each parameter."""
    _positive(parameters=parameters, gpus=gpus)
    if stage not in (0, 1, 2, 3):
        raise CalcError(f"ZeRO stage {stage} is not one of 0, 1, 2, 3")
    whole = (16, 4, 2, 0)[int(stage)]  # not split: weights 2, gradients 2, Adam's moments and fp32 weights 12
    return parameters * (whole + (16 - whole) / gpus)


def lora_parameters(in_features: Number, out_features: Number, rank: Number) -> Number:
    """r · (in + out): the two thin matrices beside one weight (Hu et al. 2021, section 4.1)."""
    _positive(in_features=in_features, out_features=out_features, rank=rank)
    return rank * (in_features + out_features)


def training_flops(parameters: Number, tokens: Number) -> Number:
    """6 · N · D: 2 forward and 4 backward for each parameter and token; attention's scores not counted."""
    _positive(parameters=parameters, tokens=tokens)
    return 6 * parameters * tokens


def forward_flops(parameters: Number, tokens: Number = 1) -> Number:
    """2 · N · T: a multiplication and an addition for each parameter and token."""
    _positive(parameters=parameters, tokens=tokens)
    return 2 * parameters * tokens


def attention_flops(layers: Number, heads: Number, head_dim: Number, queries: Number, keys: Number) -> Number:
    """4 · L · H · D · q · k: scores and weighted values, 2 each. Causal prefill computes half of q = k = T."""
    _positive(layers=layers, heads=heads, head_dim=head_dim, queries=queries, keys=keys)
    return 4 * layers * heads * head_dim * queries * keys


def activation_bytes(layers: Number, hidden: Number, heads: Number, tokens: Number, batch: Number = 1) -> Number:
    """L · s · B · h · (34 + 5 · a · s / h): kept by a 16-bit GPT block (Korthikanti et al. 2022, section 4.1). The last
    term are the scores; an attention that recomputes them (FlashAttention) leaves 34."""
    _positive(layers=layers, hidden=hidden, heads=heads, tokens=tokens, batch=batch)
    return layers * tokens * batch * (34 * hidden + 5 * heads * tokens)


def pipeline_bubble(stages: Number, micro_batches: Number) -> float:
    """(p - 1) / (m + p - 1): the share of the time that a stage idles, in GPipe and 1F1B alike."""
    _positive(stages=stages, micro_batches=micro_batches)
    return (stages - 1) / (micro_batches + stages - 1)


def ring_all_reduce_bytes(size: Number, gpus: Number) -> float:
    """2 · (n - 1) / n · size: what each GPU sends, however many there are nearly twice the data."""
    _positive(size=size, gpus=gpus)
    return 2 * (gpus - 1) / gpus * size


def roofline_seconds(flops: Number, bytes_moved: Number, peak: Number, bandwidth: Number) -> float:
    """max(FLOPs / peak, bytes / bandwidth): the slower of computing and reading, as if both overlapped fully."""
    _positive(flops=flops, bytes_moved=bytes_moved, peak=peak, bandwidth=bandwidth)
    return max(flops / peak, bytes_moved / bandwidth)


CHECKED: dict[str, Callable[..., Number]] = {
    function.__name__: function
    for function in (
        kv_cache_bytes,
        mla_cache_bytes,
        zero_bytes,
        lora_parameters,
        training_flops,
        forward_flops,
        attention_flops,
        activation_bytes,
        pipeline_bubble,
        ring_all_reduce_bytes,
        roofline_seconds,
    )
}


def _positive(**numbers: Number) -> None:
    for name, number in numbers.items():
        if not (number > 0 and math.isfinite(number)):
            raise CalcError(f"{name} is {number:.6g}; it must be positive")
