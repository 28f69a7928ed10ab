"""Work and time: training, prefill, decoding, each bound by arithmetic or by reading.

Decoding one sequence reads every weight for two operations a number: its speed is bandwidth over bytes, and the GPU's
FLOPs hardly matter. A batch shares that reading, until at `balanced_batch` both bounds meet; the cache is not shared,
so a long context stays bound by reading at any batch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from llmquiz.calc.errors import CalcError
from llmquiz.calc.formulas import forward_flops, training_flops
from llmquiz.calc.presets import Gpu
from llmquiz.calc.shape import Shape
from llmquiz.calc.sheet import Sheet
from llmquiz.calc.units import BITS, plain


def flops(
    shape: Shape,
    gpu: Gpu,
    *,
    context: int,
    batch: int = 1,
    dtype: str = "bf16",
    cache: str = "bf16",
    tp: int = 1,
    train_tokens: float = 0.0,
    gpus: int = 1,
    utilization: float = 0.4,
) -> Sheet:
    """FLOPs and roofline times. Products run in 16 bits, as kernels for weights of 8 or 4 bits do: short formats are
    read faster, not computed faster.

    Args:
        context: tokens of the prompt, and those that a decoded token looks back on.
        tp: GPUs that share inference, as if their links cost nothing; training is spread over `gpus`.
        train_tokens: D of 6ND; 0 to leave training out.
        utilization: share of the peak that training reaches (MFU).
    """
    inputs: dict[str, Any] = {"gpu": gpu.name, "flops": gpu.flops, "bandwidth": gpu.bandwidth, "tp": tp}
    sheet = Sheet("flops", shape.name, inputs | {"context": context, "batch": batch, "dtype": dtype, "cache": cache})
    _parameters(sheet, shape)
    if train_tokens:
        _training(sheet, shape, gpu, train_tokens, gpus, utilization)
    together = replace(gpu, memory=tp * gpu.memory, flops=tp * gpu.flops, bandwidth=tp * gpu.bandwidth)
    size, number = BITS[dtype] / 8, BITS[cache] / 8
    _prefill(sheet, shape, together, context, size)
    _decode(sheet, shape, together, context, batch, size, number)
    needed = shape.parameters * size + batch * shape.cached_numbers * number * context
    if needed > together.memory:
        sheet.problems.append(("does_not_fit", {"needed": needed, "usable": together.memory}))
    return sheet


def _parameters(sheet: Sheet, shape: Shape) -> None:
    sheet.add("parameters", shape.parameters, "parameters")
    if shape.experts is not None:
        sheet.add("active_parameters", shape.active, "parameters")
    looked_up = (shape.active - shape.multiplying) // shape.hidden
    numbers = f"{plain(shape.active)} - {looked_up} * {shape.hidden}" if looked_up else ""
    sheet.add("multiplying_parameters", shape.multiplying, "parameters", numbers)


def _training(sheet: Sheet, shape: Shape, gpu: Gpu, tokens: float, gpus: int, utilization: float) -> None:
    if not 0 < utilization <= 1:
        raise CalcError(f"--mfu {utilization:g} is not a share from 0 to 1")
    sheet.inputs |= {"train_tokens": tokens, "gpus": gpus, "mfu": utilization}
    work = training_flops(shape.active, tokens)
    sheet.add("training_flops", work, "FLOPs", f"6 * {plain(shape.active)} * {plain(tokens)}")
    rate = f"({gpus} * {plain(gpu.flops)} * {utilization:g})"
    sheet.add("training_time", work / (gpus * gpu.flops * utilization), "s", f"{plain(work)} / {rate}")


def _prefill(sheet: Sheet, shape: Shape, gpu: Gpu, context: int, size: float) -> None:
    linear = forward_flops(shape.multiplying, context)
    seen = min(context, shape.window) if shape.window else context
    pair = _prefill_pair(shape)  # FLOPs of one query and key, a layer
    scores = pair * shape.layers * context * seen * (0.5 if seen == context else 1.0)
    half = " / 2" if seen == context else ""
    numbers = f"2 * {plain(shape.multiplying)} * {context} + {pair} * {shape.layers} * {context} * {seen}{half}"
    work = sheet.add("prefill_flops", linear + scores, "FLOPs", numbers)
    sheet.add("prefill_attention_share", scores / work, "share", f"{plain(scores)} / {plain(work)}")
    read = _weights_read(shape, context) * size
    numbers = f"max({plain(work)} / {plain(gpu.flops)}, {plain(read)} / {plain(gpu.bandwidth)})"
    sheet.add("prefill_time", max(work / gpu.flops, read / gpu.bandwidth), "s", numbers)


def _decode(sheet: Sheet, shape: Shape, gpu: Gpu, context: int, batch: int, size: float, number: float) -> None:
    seen = min(context, shape.window) if shape.window else context
    pair = _decode_pair(shape)
    numbers = f"2 * {plain(shape.multiplying)} + {pair} * {shape.layers} * {seen}"
    work = sheet.add("decode_flops", 2 * shape.multiplying + pair * shape.layers * seen, "FLOPs/token", numbers)
    weights = _weights_read(shape, batch)
    cached = shape.cached_numbers * number * seen
    numbers = f"{plain(weights)} * {plain(size)} + {batch} * {plain(shape.cached_numbers)} * {plain(number)} * {seen}"
    read = sheet.add("decode_bytes", weights * size + batch * cached, "bytes", numbers)
    by_reading, by_computing = read / gpu.bandwidth, batch * work / gpu.flops
    sheet.add("decode_read_time", by_reading, "s", f"{plain(read)} / {plain(gpu.bandwidth)}")
    sheet.add("decode_compute_time", by_computing, "s", f"{batch} * {plain(work)} / {plain(gpu.flops)}")
    slower = max(by_reading, by_computing)
    sheet.add("decode_rate", batch / slower, "tokens/s", f"{batch} / max({by_reading:.6g}, {by_computing:.6g})")
    if shape.experts is None:
        balanced = gpu.flops * size / (2 * gpu.bandwidth)
        sheet.add(
            "balanced_batch", balanced, "tokens", f"{plain(gpu.flops)} * {plain(size)} / (2 * {plain(gpu.bandwidth)})"
        )


def _prefill_pair(shape: Shape) -> int:
    if shape.latent is None:
        return 4 * shape.heads * shape.head_dim
    mla = shape.latent  # keys and values are built up from the latent: cheaper for many queries
    return 2 * shape.heads * (mla.nope_dim + mla.rope_dim + mla.value_dim)


def _decode_pair(shape: Shape) -> int:
    if shape.latent is None:
        return 4 * shape.heads * shape.head_dim
    return 2 * shape.heads * (2 * shape.latent.rank + shape.latent.rope_dim)  # attends the latent itself


def _weights_read(shape: Shape, tokens: int) -> float:
    """Numbers of weights that a pass over `tokens` tokens reads: of the experts, those that some token is sent to."""
    always = shape.multiplying - shape.active_expert_parameters
    return always + round(shape.expert_parameters * shape.expert_share(tokens))
