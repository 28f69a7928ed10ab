"""A model over several GPUs: what divides, bytes on each, and what the links carry.

Tensor parallelism splits every layer (tp must divide the heads) and pays two all-reduces of the activations in each
layer and direction, so it stays within a node. Pipeline parallelism splits the stack and pays with the bubble. Data
parallelism copies the model and pays one all-reduce of the gradients a step.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmquiz.calc.errors import CalcError
from llmquiz.calc.formulas import pipeline_bubble, ring_all_reduce_bytes
from llmquiz.calc.shape import Shape
from llmquiz.calc.sheet import Sheet
from llmquiz.calc.units import BITS, plain


@dataclass(frozen=True, slots=True)
class Split:
    """GPUs along each axis. `expert` takes its GPUs out of `data`: it splits experts where data parallelism copies."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert: int = 1

    def __post_init__(self) -> None:
        for name, count in (("tp", self.tensor), ("pp", self.pipeline), ("dp", self.data), ("ep", self.expert)):
            if count < 1:
                raise CalcError(f"--{name} {count} is below 1")


def parallel(
    shape: Shape, split: Split, *, tokens: int, batch: int = 1, micro_batches: int = 1, dtype: str = "bf16"
) -> Sheet:
    """Divisibility, memory and traffic of `split`.

    Args:
        tokens, batch: of one micro-batch.
        micro_batches: m, in flight along the pipeline.
    """
    tp, pp, dp, ep = split.tensor, split.pipeline, split.data, split.expert
    inputs = {"tp": tp, "pp": pp, "dp": dp, "ep": ep, "tokens": tokens, "batch": batch, "dtype": dtype}
    inputs["micro_batches"] = micro_batches
    sheet = Sheet("parallel", shape.name, inputs)
    _divisible(sheet, shape, split)
    sheet.add("gpus", tp * pp * dp, "GPUs", f"{tp} * {pp} * {dp}")
    size = BITS[dtype] / 8
    held = _weights(sheet, shape, split, size)
    _cache(sheet, shape, split, size)
    sheet.add("bubble", pipeline_bubble(pp, micro_batches), "share", f"({pp} - 1) / ({micro_batches} + {pp} - 1)")
    if tp > 1:
        one = tokens * batch * shape.hidden * size
        numbers = f"2 * 2 * ({tp} - 1) / {tp} * {tokens} * {batch} * {shape.hidden} * {plain(size)}"
        sheet.add("tensor_traffic", 2 * ring_all_reduce_bytes(one, tp), "bytes", numbers)
    if pp > 1:
        numbers = f"{tokens} * {batch} * {shape.hidden} * {plain(size)}"
        sheet.add("pipeline_traffic", tokens * batch * shape.hidden * size, "bytes", numbers)
    if dp > 1:
        sheet.add("data_traffic", ring_all_reduce_bytes(held, dp), "bytes", f"2 * ({dp} - 1) / {dp} * {plain(held)}")
    return sheet


def _divisible(sheet: Sheet, shape: Shape, split: Split) -> None:
    tp, pp, ep = split.tensor, split.pipeline, split.expert
    if shape.heads % tp:
        sheet.problems.append(("heads", {"heads": shape.heads, "tp": tp}))
    if shape.latent is None and shape.kv_heads % tp and tp % shape.kv_heads:
        sheet.problems.append(("kv_heads", {"heads": shape.kv_heads, "tp": tp}))
    if shape.width and shape.width % tp:
        sheet.problems.append(("width", {"width": shape.width, "tp": tp}))
    if shape.layers % pp:
        sheet.problems.append(("layers", {"layers": shape.layers, "pp": pp}))
    if ep > 1 and shape.experts is None:
        sheet.problems.append(("no_experts", {}))
    elif shape.experts is not None and shape.experts.count % ep:
        sheet.problems.append(("experts", {"experts": shape.experts.count, "ep": ep}))
    if split.data % ep:
        sheet.problems.append(("ep_of_dp", {"dp": split.data, "ep": ep}))


def _weights(sheet: Sheet, shape: Shape, split: Split, size: float) -> float:
    tp, pp, ep = split.tensor, split.pipeline, split.expert
    experts = shape.expert_parameters
    rest = shape.parameters - experts
    if not experts:
        numbers = f"{plain(rest)} * {plain(size)} / ({tp} * {pp})"
        return sheet.add("weights_per_gpu", rest * size / (tp * pp), "bytes", numbers)
    numbers = f"({plain(rest)} + {plain(experts)} / {ep}) * {plain(size)} / ({tp} * {pp})"
    return sheet.add("weights_per_gpu_moe", (rest + experts / ep) * size / (tp * pp), "bytes", numbers)


def _cache(sheet: Sheet, shape: Shape, split: Split, size: float) -> None:
    """A latent is needed by every head, so tensor parallelism copies it; K/V heads are copied once tp exceeds them."""
    shared = 1 if shape.latent is not None else min(split.tensor, shape.kv_heads)
    numbers = f"{plain(shape.cached_numbers)} * {plain(size)} / ({shared} * {split.pipeline})"
    sheet.add("cache_per_gpu", shape.cached_numbers * size / (shared * split.pipeline), "bytes", numbers)
