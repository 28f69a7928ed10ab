"""Int8: what a bit buys, who may share a scale, and what an outlier does.

First the weights alone, at 2 to 8 bits and with scales of three kinds. Then the whole model with int8 activations as
well, dynamic and static, beside torch's own dynamic quantization: bytes of the file, time, error, perplexity. At last
outliers in each place where they may stand: a row of weights, a number in the calibration data, a token at run time, a
feature in every token. Each place needs another remedy, and the last needs the most.

Outlier features are planted without changing the model: two features of each norm are made larger, and the columns of
the weights that read them smaller by as much. Shapes: M tokens, K input features, N output features.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from llmquiz.lab.sdk import LabError, Params, Report, quiet_clock
from llmquiz.llm.base.load import base_model
from llmquiz.llm.base.memory import check_fits, estimate
from llmquiz.llm.base.tokenizer import Tokenizer
from llmquiz.llm.data.corpus import documents
from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.decoder import Decoder
from llmquiz.llm.quant.calibration import (
    Observer,
    calibrate,
    least_error,
    min_max,
    percentile,
    plant_outliers_,
    smooth_,
)
from llmquiz.llm.quant.int8 import (
    DynamicInt8Linear,
    StaticInt8Linear,
    dequantize,
    quantize,
    quantize_dynamic_,
    quantize_static_,
)
from llmquiz.llm.quant.reference import to_torch_dynamic
from llmquiz.llm.quant.report import (
    compare,
    interleaved_latencies,
    parameter_bytes,
    perplexity,
    serialized_bytes,
    snr_db,
)
from llmquiz.llm.tune.targets import ALL_LINEAR, find_targets

FP32, DYNAMIC, STATIC, TORCH = "fp32", "int8 dynamic", "int8 static", "torch's quantize_dynamic"
BITS = range(2, 9)
KINDS: dict[str, dict[str, Any]] = {"per tensor": {}, "per channel": {"axis": 0}, "groups of 64": {"group": 64}}
RANGES = {"least and largest": min_max, "percentile 99.9": percentile, "least squared error": least_error}
HELD_OUT_SEED, CALIBRATION_SEED = 70_000, 80_000  # the shipped model was trained on other seeds
CALIBRATION = 6  # texts
OUTLIER_FEATURES = 2  # of each norm
SPIKE = 50.0  # times the largest number
THRESHOLD = 8.0  # times the largest number behind a norm without outliers: features beyond are multiplied in float
BATCHES = (1, 64)
TURNS = 7  # of each model, to be timed


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    try:
        language = base_model(params.model, device=params.device)
    except ModelError as error:
        raise LabError(str(error)) from error
    model = language.model
    if not isinstance(model, Decoder):
        raise LabError("the outliers are planted into the norms of a Llama; use a model of that family")
    check_fits(estimate(5 * model.config.num_parameters()), params.device, what="five copies of the model")
    texts = read(language.tokenizer, HELD_OUT_SEED + params.seed, params.texts, params.device)
    calibration = read(language.tokenizer, CALIBRATION_SEED + params.seed, CALIBRATION, params.device)
    seen = calibrate(model, [text[None] for text in calibration])
    report_bits(model, report)
    report_rows(model, params.outlier, report)
    report_models(model, seen, texts, params, report)
    report_calibration(model, seen, texts[0], report)
    report_features(model, calibration, texts, params, report)
    report_speed(params, report)


def read(tokenizer: Tokenizer, seed: int, count: int, device: str) -> list[Tensor]:
    """Texts of the corpus, each [T]."""
    made = islice(documents(seed), count)
    return [torch.tensor(tokenizer.encode(document.text, special=True), device=device) for document in made]


def layers_of(model: nn.Module) -> dict[str, nn.Linear]:
    """The layers that are quantized: all linear ones but the head."""
    found = find_targets(model, ALL_LINEAR, (nn.Linear,))
    return {path: layer for path, layer in found.items() if isinstance(layer, nn.Linear)}


@torch.no_grad()
def report_bits(model: nn.Module, report: Report) -> None:
    """The signal over the error of all weights, by bits and by who shares a scale."""
    weights = [layer.weight for layer in layers_of(model).values()]
    whole = torch.cat([weight.flatten() for weight in weights])
    snr: dict[str, dict[int, float]] = {kind: {} for kind in KINDS}
    for bits in report.progress(BITS, unit="bits", label="rounding weights"):
        for kind, sharing in KINDS.items():
            rounded = [dequantize(quantize(weight, bits, **sharing)).flatten() for weight in weights]
            snr[kind][bits] = snr_db(whole, torch.cat(rounded))
            report.point("snr", x=bits, y=snr[kind][bits], series=kind)
    rows = [(bits, *(snr[kind][bits] for kind in KINDS)) for bits in BITS]
    report.table("weights: signal over error, dB", ("bits", *KINDS), rows)
    fine, coarse = BITS[-1], 4  # below 4 bits most weights round to zero
    slopes = {kind: (by_bits[fine] - by_bits[coarse]) / (fine - coarse) for kind, by_bits in snr.items()}
    step = (2 ** (fine - 1) - 1) / (2 ** (coarse - 1) - 1)  # is so many times smaller
    for slope in slopes.values():
        report.claim("six-db", measured=slope, expected=20 * math.log10(step) / (fine - coarse), tolerance=0.3)
    report.metric("db_per_bit", slopes["per channel"])


@torch.no_grad()
def report_rows(model: nn.Module, factor: float, report: Report) -> None:
    """One row of each weight made larger: what the other rows lose at 8 bits."""
    ordinary: dict[str, list[Tensor]] = {"weights": []}
    for layer in layers_of(model).values():
        row = int(layer.weight.abs().amax(dim=1).argmax())  # the one with the largest weight
        others = torch.arange(layer.out_features, device=layer.weight.device) != row
        large = layer.weight.clone()
        large[row] *= factor
        ordinary["weights"].append(layer.weight[others].flatten())
        for kind, sharing in list(KINDS.items())[:2]:
            for name, weight in ((kind, layer.weight), (f"{kind}, one row x{factor:g}", large)):
                ordinary.setdefault(name, []).append(dequantize(quantize(weight, **sharing))[others].flatten())
    exact = torch.cat(ordinary.pop("weights"))
    snrs = {name: snr_db(exact, torch.cat(rounded)) for name, rounded in ordinary.items()}
    report.table("8 bits: the other rows, dB", ("scale", "signal over error"), list(snrs.items()))
    tensor, tensor_large, channel, channel_large = snrs.values()
    report.metric("tensor_loss", tensor - tensor_large)
    report.metric("channel_loss", channel - channel_large)
    report.claim("per-tensor", measured=tensor - tensor_large, expected=20 * math.log10(factor), tolerance=3.0)
    report.claim("per-channel", measured=channel - channel_large, expected=0.0)


@torch.no_grad()
def report_models(
    model: Decoder, seen: dict[str, Observer], texts: list[Tensor], params: Params, report: Report
) -> None:
    """The whole model in int8: what it saves and what it costs."""
    dynamic, static = copy.deepcopy(model), copy.deepcopy(model)
    quantize_dynamic_(dynamic)
    quantize_static_(static, {path: min_max(observer) for path, observer in seen.items()})
    models: dict[str, nn.Module] = {FP32: model, DYNAMIC: dynamic, STATIC: static}
    theirs, tokens = to_torch_dynamic(copy.deepcopy(model).cpu(), set(seen)), texts[0][None, :64]
    if params.device == "cpu":
        models[TORCH] = theirs
    else:
        report.note("torch's quantize_dynamic runs on the CPU alone: its time was left out")
    found = compare(models, tokens, texts, repeats=TURNS, clock=quiet_clock(params.device, 1))
    whole = found[FP32].size_bytes
    rows = []
    for name, made in found.items():
        counted = parameter_bytes(models[name]) / 2**20
        bits = None if name == FP32 else made.snr
        sizes = (made.size_bytes / 2**20, whole / made.size_bytes, counted)
        rows.append((name, *sizes, 1e3 * made.latency, bits, made.perplexity))
    columns = ("model", "file MiB", "x smaller", "parameters() MiB", "ms", "logits: dB", "perplexity")
    report.table(f"{len(texts)} texts; time of {tokens.numel()} tokens", columns, rows)
    report.metric("file_ratio", whole / found[DYNAMIC].size_bytes)
    report.metric("perplexity_fp32", found[FP32].perplexity)
    for name, metric in ((DYNAMIC, "perplexity_dynamic"), (STATIC, "perplexity_static")):
        report.metric(metric, found[name].perplexity)
    harm = found[DYNAMIC].perplexity / found[FP32].perplexity
    report.claim("as-good", measured=harm, expected=1.0, tolerance=0.03)
    report.metric("snr_dynamic", found[DYNAMIC].snr)
    gain = found[DYNAMIC].snr - snr_db(model(tokens).cpu(), theirs(tokens.cpu()))
    report.claim("finer-than-torch", measured=gain, expected=3.0, relation="at least")
    report_bytes(model, dynamic, report)


def report_bytes(model: nn.Module, quantized: nn.Module, report: Report) -> None:
    """The quantized layers alone, in a file and by `parameters()`."""
    layers = layers_of(model)
    before, after = (nn.ModuleList(each.get_submodule(path) for path in layers) for each in (model, quantized))
    weights = sum(layer.weight.numel() for layer in layers.values())
    scales = sum(layer.out_features for layer in layers.values())
    ratio = serialized_bytes(before) / serialized_bytes(after)
    report.metric("layers_ratio", ratio)
    report.claim("a-quarter", measured=ratio, expected=4 * weights / (weights + 4 * scales), tolerance=0.05)
    report.metric("parameters_say", parameter_bytes(after))
    report.claim("parameters-lie", measured=parameter_bytes(after), expected=0)


@torch.no_grad()
def report_calibration(model: nn.Module, seen: dict[str, Observer], text: Tensor, report: Report) -> None:
    """One layer: an outlier in the calibration data, and one at run time."""
    path = list(seen)[len(seen) // 2]
    layer, clean = layers_of(model)[path], seen[path]
    inputs = input_of(model, path, text)
    spiked = copy.deepcopy(clean)
    spike = torch.zeros(1, layer.in_features, device=text.device)
    spike[0, 0] = SPIKE * max(-clean.low, clean.high)
    spiked.see(spike)
    expected = layer(inputs)
    rows: list[tuple[object, ...]] = []
    loss = {}
    for name, choose in RANGES.items():
        before, after = (snr_db(expected, StaticInt8Linear(layer, *choose(each))(inputs)) for each in (clean, spiked))
        loss[name] = before - after
        rows.append((name, before, after))
    rows.append(("dynamic: nothing to calibrate", snr_db(expected, DynamicInt8Linear(layer)(inputs)), None))
    report.table(f"{path}: dB", ("range", "calibrated", f"with one number x{SPIKE:g} among it"), rows)
    report.metric("min_max_loss", loss["least and largest"])
    report.claim("one-number", measured=loss["least and largest"], expected=15.0, relation="at least")
    report.claim("percentile", measured=loss["percentile 99.9"], expected=3.0, relation="at most")

    late = inputs.clone()
    late[-1] *= SPIKE
    static, dynamic = StaticInt8Linear(layer, *min_max(clean)), DynamicInt8Linear(layer)
    kept = {one: snr_db(layer(late)[-1], one(late)[-1]) for one in (static, dynamic)}
    report.claim("cut-off", measured=kept[static], expected=6.0, relation="at most")
    report.claim("dynamic-adapts", measured=kept[dynamic], expected=25.0, relation="at least")


def input_of(model: nn.Module, path: str, text: Tensor) -> Tensor:
    """What a layer is given for a text [T]: [T, K]."""
    caught: list[Tensor] = []
    handle = model.get_submodule(path).register_forward_pre_hook(lambda module, given: caught.append(given[0]))
    model(text[None])
    handle.remove()
    return caught[0][0]


@torch.no_grad()
def report_features(
    model: Decoder, calibration: list[Tensor], texts: list[Tensor], params: Params, report: Report
) -> None:
    """Features that are large in every token, and three remedies; the model itself stays what it was."""
    some = texts[: max(2, len(texts) // 3)]
    exact = perplexity(model, some)
    planted = copy.deepcopy(model)
    plant_outliers_(planted, params.feature, OUTLIER_FEATURES)
    report.claim("same-model", measured=perplexity(planted, some) / exact, expected=1.0, tolerance=1e-3)
    smooth = copy.deepcopy(planted)
    smooth_(smooth, calibrate(smooth, [text[None] for text in calibration]))
    usual = calibrate(model, [calibration[0][None]], ("q_proj", "up_proj"))  # what the norms give
    threshold = THRESHOLD * max(float(observer.peaks.max()) for observer in usual.values())
    ways: dict[str, tuple[Decoder, Callable[[Decoder], object]]] = {
        "static": (planted, partial(make_static, calibration=calibration)),
        "dynamic, per token": (planted, quantize_dynamic_),
        "dynamic, outlier features in float": (planted, partial(quantize_dynamic_, threshold=threshold)),
        "SmoothQuant, static": (smooth, partial(make_static, calibration=calibration)),
        "SmoothQuant, dynamic": (smooth, quantize_dynamic_),
    }
    rows, harm = [(FP32, exact, 1.0)], {}
    for name, (base, convert) in report.progress(ways.items(), unit="way", total=len(ways)):
        convert(quantized := copy.deepcopy(base))
        harm[name] = perplexity(quantized, some) / exact
        rows.append((name, harm[name] * exact, harm[name]))
    columns = ("int8", "perplexity", "of fp32's")
    report.table(f"{OUTLIER_FEATURES} features of each norm x{params.feature:g}", columns, rows)
    report.metric("features_harm", harm["dynamic, per token"])
    report.metric("smooth_harm", harm["SmoothQuant, dynamic"])
    report.claim("features-harm", measured=harm["dynamic, per token"], expected=5.0, relation="at least")
    for name in ("dynamic, outlier features in float", "SmoothQuant, dynamic"):
        report.claim("remedies", measured=harm[name], expected=1.1, relation="at most")


def make_static(model: Decoder, calibration: list[Tensor]) -> None:
    seen = calibrate(model, [text[None] for text in calibration])
    quantize_static_(model, {path: min_max(observer) for path, observer in seen.items()})


@torch.no_grad()
def report_speed(params: Params, report: Report) -> None:
    """One layer of width x width."""
    linear = nn.Linear(params.width, params.width, bias=False).to(params.device)
    layers: dict[str, nn.Module] = {FP32: linear, DYNAMIC: DynamicInt8Linear(linear)}
    layers[STATIC] = StaticInt8Linear(linear, -4.0, 4.0)
    if params.device == "cpu":
        layers[TORCH] = to_torch_dynamic(nn.Sequential(linear), {"0"})
    clock = quiet_clock(params.device, 1)
    rows, seconds = [], {}
    for batch in BATCHES:
        x = torch.randn(batch, params.width, device=params.device)
        seconds[batch] = interleaved_latencies(layers, x, 15, clock)
        rows += [(batch, name, 1e3 * taken, seconds[batch][FP32] / taken) for name, taken in seconds[batch].items()]
    report.table(f"a layer of {params.width} x {params.width}", ("tokens", "layer", "ms", "x fp32's speed"), rows)
    many = seconds[BATCHES[-1]]
    report.metric("speedup", many[FP32] / many[DYNAMIC])
    if TORCH in many:
        report.metric("speedup_over_torch", many[TORCH] / many[DYNAMIC])
