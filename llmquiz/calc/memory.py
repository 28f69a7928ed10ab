"""Memory of inference and of training.

"7B in bf16 are 14 GB" is true of the weights and of nothing else: training with Adam in mixed precision takes 16 bytes
a parameter before a single activation is kept, and activations do not shrink when parameters are frozen.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmquiz.calc.errors import CalcError
from llmquiz.calc.formulas import activation_bytes, zero_bytes
from llmquiz.calc.shape import Shape
from llmquiz.calc.sheet import Sheet
from llmquiz.calc.units import BITS, plain

METHODS = ("full", "lora", "qlora")
CHECKPOINTING = ("none", "flash", "full")
_ZERO = {0: "16", 1: "(4 + 12 / {n})", 2: "(2 + 14 / {n})", 3: "(16 / {n})"}


def inference_memory(
    shape: Shape, *, context: int, batch: int = 1, dtype: str = "bf16", cache: str = "bf16", memory: float = 0.0
) -> Sheet:
    """Weights and KV cache."""
    inputs = {"context": context, "batch": batch, "dtype": dtype, "cache": cache}
    sheet = Sheet("memory", shape.name, inputs)
    size, number = BITS[dtype] / 8, BITS[cache] / 8
    weights = sheet.add("weight_bytes", shape.parameters * size, "bytes", f"{plain(shape.parameters)} * {plain(size)}")
    kept = min(context, shape.window) if shape.window else context
    held = sheet.add(
        "cache_bytes",
        shape.cached_numbers * number * kept * batch,
        "bytes",
        f"{plain(shape.cached_numbers)} * {plain(number)} * {kept} * {batch}",
    )
    sheet.add("total_bytes", weights + held, "bytes", f"{plain(weights)} + {plain(held)}")
    _fits(sheet, memory)
    return sheet


@dataclass(frozen=True, slots=True)
class Training:
    """How a model is trained.

    Attributes:
        method: full, lora or qlora (NF4 base).
        rank: of LoRA, on all linear layers of attention and feed-forward.
        stage, gpus: of ZeRO.
        tokens, batch: of one micro-batch on one GPU.
        checkpointing: none keeps the scores too, flash does not, full keeps the input of each layer alone.
    """

    method: str = "full"
    rank: int = 16
    stage: int = 0
    gpus: int = 1
    tokens: int = 2048
    batch: int = 1
    checkpointing: str = "flash"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise CalcError(f"--method '{self.method[:20]}' is not one of {', '.join(METHODS)}")
        if self.checkpointing not in CHECKPOINTING:
            raise CalcError(f"--checkpointing '{self.checkpointing[:20]}' is not one of {', '.join(CHECKPOINTING)}")


def training_memory(shape: Shape, training: Training, *, memory: float = 0.0) -> Sheet:
    """Weights, gradients, Adam's state and activations on each GPU."""
    it = training
    inputs = {
        "method": it.method,
        "zero": it.stage,
        "gpus": it.gpus,
        "tokens": it.tokens,
        "batch": it.batch,
        "checkpointing": it.checkpointing,
    }
    sheet = Sheet("memory", shape.name, inputs)
    trained, parts = shape.parameters, []
    if it.method != "full":
        inputs["rank"] = it.rank
        parts.append(_frozen(sheet, shape, it))
        trained = int(sheet["adapter_parameters"])
    state = zero_bytes(trained, it.gpus, it.stage)
    parts.append(sheet.add("state_bytes", state, "bytes", f"{plain(trained)} * {_ZERO[it.stage].format(n=it.gpus)}"))
    parts += [_activations(sheet, shape, it), _logits(sheet, shape, it)]
    sheet.add("total_bytes", sum(parts), "bytes", " + ".join(map(plain, parts)))
    _fits(sheet, memory)
    return sheet


def _frozen(sheet: Sheet, shape: Shape, it: Training) -> float:
    if it.rank < 1:
        raise CalcError(f"--rank {it.rank} is below 1")
    widths = sum(inner + outer for inner, outer in shape.linears)
    adapter = shape.layers * it.rank * widths
    sheet.add("adapter_parameters", adapter, "parameters", f"{shape.layers} * {it.rank} * {widths}")
    size = BITS["nf4" if it.method == "qlora" else "bf16"] / 8
    if it.method == "qlora":
        tables = (1 if shape.tied else 2) * shape.vocabulary * shape.hidden  # stay in 16 bits, as bitsandbytes does it
        quantized = shape.parameters - tables
        return sheet.add(
            "frozen_bytes_qlora",
            quantized * size + 2 * tables,
            "bytes",
            f"{plain(quantized)} * {size:g} + 2 * {plain(tables)}",
        )
    return sheet.add("frozen_bytes", shape.parameters * size, "bytes", f"{plain(shape.parameters)} * {plain(size)}")


def _activations(sheet: Sheet, shape: Shape, it: Training) -> float:
    layers, hidden, heads, tokens, batch = shape.layers, shape.hidden, shape.heads, it.tokens, it.batch
    if it.checkpointing == "none":
        kept = activation_bytes(layers, hidden, heads, tokens, batch)
        numbers = f"{layers} * {tokens} * {batch} * (34 * {hidden} + 5 * {heads} * {tokens})"
        return sheet.add("activation_bytes_none", kept, "bytes", numbers)
    if it.checkpointing == "flash":
        numbers = f"34 * {layers} * {tokens} * {batch} * {hidden}"
        return sheet.add("activation_bytes_flash", 34 * layers * tokens * batch * hidden, "bytes", numbers)
    numbers = f"(2 * {layers} + 34) * {tokens} * {batch} * {hidden}"
    return sheet.add("activation_bytes_full", (2 * layers + 34) * tokens * batch * hidden, "bytes", numbers)


def _logits(sheet: Sheet, shape: Shape, it: Training) -> float:
    size = 8 * it.tokens * it.batch * shape.vocabulary
    return sheet.add("logit_bytes", size, "bytes", f"8 * {it.tokens} * {it.batch} * {shape.vocabulary}")


def _fits(sheet: Sheet, memory: float) -> None:
    if not memory:
        return
    sheet.inputs["memory"] = memory
    if sheet["total_bytes"] > memory:
        sheet.problems.append(("does_not_fit", {"needed": sheet["total_bytes"], "usable": memory}))
