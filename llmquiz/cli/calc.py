"""`llmquiz calc`: memory, FLOPs and splits of a model on paper, with the formula and the numbers in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from llmquiz.calc.presets import Gpu
    from llmquiz.calc.shape import Shape
    from llmquiz.calc.sheet import Sheet

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Work out cache, memory, FLOPs or a split over GPUs; no torch, no GPU.",
)


def _models(incomplete: str) -> list[str]:
    from llmquiz.calc.presets import BASE, SHAPES

    return [name for name in (BASE, *SHAPES) if name.startswith(incomplete)]


def _gpus(incomplete: str) -> list[str]:
    from llmquiz.calc.presets import GPUS

    return [name for name in GPUS if name.startswith(incomplete)]


def _formats(incomplete: str) -> list[str]:
    from llmquiz.calc.units import BITS

    return [name for name in BITS if name.startswith(incomplete)]


def _among(words: Iterable[str]) -> Callable[[str], list[str]]:
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


Model = Annotated[str | None, typer.Argument(help="A model; `llmquiz calc models` lists them.", autocompletion=_models)]
Config = Annotated[Path | None, typer.Option("--config", help="Instead of a model: a config.json, or its folder.")]
Context = Annotated[int, typer.Option(min=1, max=1 << 30, help="Tokens of a sequence.")]
Batch = Annotated[int, typer.Option(min=1, max=1 << 20, help="Sequences at a time.")]
Dtype = Annotated[
    str, typer.Option(help="Format of the weights: fp32, bf16, fp8, int8, int4, nf4.", autocompletion=_formats)
]
Cache = Annotated[str, typer.Option(help="Format of the KV cache.", autocompletion=_formats)]
GpuName = Annotated[str | None, typer.Option("--gpu", help="A GPU: h100, a100, l4, rtx-4090, …", autocompletion=_gpus)]
Memory = Annotated[str | None, typer.Option("--gpu-memory", help="Memory of the GPU instead, e.g. 80GB or 24GiB.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
LangOption = Annotated[
    str, typer.Option("--lang", metavar="en|zh", autocompletion=_among(("en", "zh")), help="Language of the report.")
]


@app.command("kv-cache")
def kv_cache(
    model: Model = None,
    config: Config = None,
    context: Context = 4096,
    batch: Batch = 1,
    dtype: Cache = "bf16",
    weights: Dtype = "bf16",
    window: Annotated[int, typer.Option(min=0, help="Tokens that a sliding window keeps.")] = 0,
    gpu: GpuName = None,
    gpu_memory: Memory = None,
    usable: Annotated[float, typer.Option(help="Share of the memory that an engine may use.")] = 0.9,
    as_json: AsJson = False,
    lang: LangOption = "",
) -> int:
    """Bytes of the KV cache, and how many sequences fit beside the weights."""
    from llmquiz.calc.kvcache import kv_cache as calculate

    _known(dtype, "--dtype")
    _known(weights, "--weights")
    memory = _memory(gpu, gpu_memory)
    sheet = calculate(
        _shape(model, config),
        context=context,
        batch=batch,
        dtype=dtype,
        weights=weights,
        window=window,
        memory=memory,
        usable=usable,
    )
    return _print(sheet, lang, as_json=as_json)


@app.command("memory")
def memory(
    model: Model = None,
    config: Config = None,
    train: Annotated[bool, typer.Option("--train", help="Of training instead of inference.")] = False,
    method: Annotated[str, typer.Option(help="With --train: full, lora or qlora.")] = "full",
    rank: Annotated[int, typer.Option(min=1, max=1 << 16, help="Rank of LoRA.")] = 16,
    zero: Annotated[int, typer.Option(min=0, max=3, help="With --train: stage of ZeRO.")] = 0,
    gpus: Annotated[int, typer.Option(min=1, max=1 << 20, help="With --train: GPUs that ZeRO spreads over.")] = 1,
    checkpointing: Annotated[str, typer.Option(help="With --train: none, flash or full.")] = "flash",
    context: Context = 2048,
    batch: Batch = 1,
    dtype: Dtype = "bf16",
    cache: Cache = "bf16",
    gpu: GpuName = None,
    gpu_memory: Memory = None,
    as_json: AsJson = False,
    lang: LangOption = "",
) -> int:
    """Memory of inference, or with --train of training: weights, gradients, Adam, activations."""
    from llmquiz.calc.memory import Training, inference_memory, training_memory

    _known(dtype, "--dtype")
    _known(cache, "--cache")
    shape, available = _shape(model, config), _memory(gpu, gpu_memory)
    if train:
        training = Training(method, rank, zero, gpus, context, batch, checkpointing)
        sheet = training_memory(shape, training, memory=available)
    else:
        sheet = inference_memory(shape, context=context, batch=batch, dtype=dtype, cache=cache, memory=available)
    return _print(sheet, lang, as_json=as_json)


@app.command("flops")
def flops(
    model: Model = None,
    config: Config = None,
    context: Context = 4096,
    batch: Batch = 1,
    dtype: Dtype = "bf16",
    cache: Cache = "bf16",
    gpu: GpuName = "h100",
    bandwidth: Annotated[str | None, typer.Option(help="Memory bandwidth a second instead, e.g. 3350GB.")] = None,
    tflops: Annotated[float | None, typer.Option(min=1e-6, max=1e9, help="Dense peak in TFLOP/s instead.")] = None,
    tp: Annotated[int, typer.Option(min=1, max=1 << 16, help="GPUs that share inference.")] = 1,
    train_tokens: Annotated[str | None, typer.Option(help="Also training, on so many tokens: 15T.")] = None,
    gpus: Annotated[int, typer.Option(min=1, max=1 << 20, help="GPUs that train.")] = 1,
    mfu: Annotated[float, typer.Option(help="Share of the peak that training reaches.")] = 0.4,
    as_json: AsJson = False,
    lang: LangOption = "",
) -> int:
    """FLOPs and roofline times of training, prefill and decoding."""
    from llmquiz.calc.flops import flops as calculate
    from llmquiz.calc.units import read_count

    _known(dtype, "--dtype")
    _known(cache, "--cache")
    sheet = calculate(
        _shape(model, config),
        _gpu(gpu, bandwidth, tflops),
        context=context,
        batch=batch,
        dtype=dtype,
        cache=cache,
        tp=tp,
        train_tokens=0.0 if train_tokens is None else read_count(train_tokens, "--train-tokens"),
        gpus=gpus,
        utilization=mfu,
    )
    return _print(sheet, lang, as_json=as_json)


@app.command("parallel")
def parallel(
    model: Model = None,
    config: Config = None,
    tp: Annotated[int, typer.Option(min=1, max=1 << 16, help="Tensor parallel GPUs.")] = 1,
    pp: Annotated[int, typer.Option(min=1, max=1 << 16, help="Pipeline stages.")] = 1,
    dp: Annotated[int, typer.Option(min=1, max=1 << 16, help="Data parallel copies.")] = 1,
    ep: Annotated[int, typer.Option(min=1, max=1 << 16, help="Expert parallel GPUs, out of dp's.")] = 1,
    micro_batches: Annotated[int, typer.Option(min=1, max=1 << 20, help="Micro-batches in flight.")] = 1,
    context: Context = 4096,
    batch: Batch = 1,
    dtype: Dtype = "bf16",
    as_json: AsJson = False,
    lang: LangOption = "",
) -> int:
    """A model over GPUs: what divides, bytes on each, the bubble, the traffic. Exit code 1 if it does not divide."""
    from llmquiz.calc.parallel import Split
    from llmquiz.calc.parallel import parallel as calculate

    _known(dtype, "--dtype")
    split = Split(tp, pp, dp, ep)
    sheet = calculate(
        _shape(model, config), split, tokens=context, batch=batch, micro_batches=micro_batches, dtype=dtype
    )
    return _print(sheet, lang, as_json=as_json)


@app.command("models")
def models(as_json: AsJson = False, lang: LangOption = "") -> None:
    """The models and GPUs that are known by name."""
    from llmquiz.cli.calctables import print_presets

    print_presets(_is_zh(lang), as_json=as_json)


def _shape(model: str | None, config: Path | None) -> Shape:
    from llmquiz.calc.config import read_shape
    from llmquiz.calc.presets import find_shape
    from llmquiz.core.errors import UsageError

    if (model is None) == (config is None):
        raise UsageError("name a model, as in `llmquiz calc kv-cache llama-3-8b`, or give --config config.json")
    return find_shape(model) if model is not None else read_shape(Path(config or ""))


def _memory(gpu: str | None, size: str | None) -> float:
    from llmquiz.calc.presets import find_gpu
    from llmquiz.calc.units import read_bytes

    if size is not None:
        return read_bytes(size, "--gpu-memory")
    return 0.0 if gpu is None else find_gpu(gpu).memory


def _gpu(name: str | None, bandwidth: str | None, tflops: float | None) -> Gpu:
    from dataclasses import replace

    from llmquiz.calc.presets import find_gpu
    from llmquiz.calc.units import read_bytes

    gpu = find_gpu(name or "h100")
    if bandwidth is not None:
        gpu = replace(gpu, bandwidth=read_bytes(bandwidth, "--bandwidth"))
    return gpu if tflops is None else replace(gpu, flops=tflops * 1e12)


def _known(name: str, option: str) -> None:
    from llmquiz.calc.units import read_bits

    read_bits(name, option)


def _print(sheet: Sheet, lang: str, *, as_json: bool) -> int:
    from llmquiz.cli.calctables import print_sheet
    from llmquiz.core.errors import ExitCode

    print_sheet(sheet, _is_zh(lang), as_json=as_json)
    return ExitCode.FINDINGS if sheet.problems else ExitCode.OK


def _is_zh(lang: str) -> bool:
    from llmquiz import settings
    from llmquiz.core.errors import UsageError

    if lang not in ("", "en", "zh"):
        raise UsageError(f"--lang '{lang}' is not one of en, zh")
    chosen: Any = lang or settings.load().language
    return bool(chosen == "zh")
