"""The KV cache: bytes a token, bytes a sequence, and how many sequences fit beside the weights."""

from __future__ import annotations

from llmquiz.calc.errors import CalcError
from llmquiz.calc.shape import Shape
from llmquiz.calc.sheet import Sheet
from llmquiz.calc.units import BITS, plain


def kv_cache(
    shape: Shape,
    *,
    context: int,
    batch: int = 1,
    dtype: str = "bf16",
    weights: str = "bf16",
    window: int = 0,
    memory: float = 0.0,
    usable: float = 0.9,
) -> Sheet:
    """The cache of `batch` sequences of `context` tokens.

    Args:
        dtype, weights: formats of the cache and of the weights.
        window: tokens that a sliding-window cache keeps at most; 0 for the model's own.
        memory: bytes of the GPU; 0 to leave out what fits.
        usable: share of them that an engine may use.
    """
    window = window or shape.window
    kept = min(context, window) if window else context
    inputs = {"context": context, "batch": batch, "dtype": dtype, "window": window or None}
    sheet = Sheet("kv-cache", shape.name, inputs)
    size = BITS[dtype] / 8
    key, heads = "bytes_per_token", f"2 * {shape.layers} * {shape.kv_heads} * {shape.head_dim}"
    if shape.latent is not None:
        key, heads = "bytes_per_token_mla", f"{shape.layers} * ({shape.latent.rank} + {shape.latent.rope_dim})"
    token = sheet.add(key, shape.cached_numbers * size, "bytes", f"{heads} * {plain(size)}")
    if window and window < context:
        sequence = sheet.add(
            "bytes_per_sequence_window", token * kept, "bytes", f"{plain(token)} * min({context}, {window})"
        )
    else:
        sequence = sheet.add("bytes_per_sequence", token * kept, "bytes", f"{plain(token)} * {context}")
    sheet.add("bytes_of_batch", sequence * batch, "bytes", f"{plain(sequence)} * {batch}")
    if memory:
        inputs |= {"memory": memory, "usable": usable, "weights": weights}
        _fit(sheet, shape, sequence, weights, memory, usable)
    return sheet


def _fit(sheet: Sheet, shape: Shape, sequence: float, weights: str, memory: float, usable: float) -> None:
    if not 0 < usable <= 1:
        raise CalcError(f"--usable {usable:g} is not a share from 0 to 1")
    size = BITS[weights] / 8
    held = sheet.add("weight_bytes", shape.parameters * size, "bytes", f"{plain(shape.parameters)} * {plain(size)}")
    left = sheet.add("left_for_cache", usable * memory - held, "bytes", f"{usable:g} * {plain(memory)} - {plain(held)}")
    if left < sequence:
        sheet.problems.append(("does_not_fit", {"needed": held + sequence, "usable": usable * memory}))
    most = max(0, int(left // sequence))
    sheet.add("largest_batch", most, "sequences", f"floor(max(0, {plain(left)}) / {plain(sequence)})")
