"""Number formats from 16 bits down to four: what each can hold, and what its scale is for.

Everything is done on the codes of a format, by an encoder and decoder of our own that agree with torch's casts. A code
shows what a number becomes; a table over all codes shows where adding a small number stops; a sweep of the loss scale
shows that scaling moves a format's window and cannot widen it. Then real weights in each format: floats have relative
precision, integers absolute, and four bits need a scale for every few numbers.

The shipped weights are stored in bf16. They are divided by their standard deviation first: as they are, bf16 would hold
them without any error. Shapes: N rows, K columns of a weight.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmquiz.lab.sdk import LabError, Params, Report, interleaved_medians, quiet_clock
from llmquiz.llm.base.dtype import choose_dtype, detect
from llmquiz.llm.base.load import LanguageModel, base_model
from llmquiz.llm.base.memory import check_fits, estimate
from llmquiz.llm.data.corpus import documents
from llmquiz.llm.errors import ModelError
from llmquiz.llm.quant.formats import (
    BF16,
    E2M1,
    E4M3,
    E5M2,
    FORMATS,
    FP16,
    FP32,
    FloatFormat,
    decode,
    encode,
    round_to,
    spell,
)
from llmquiz.llm.quant.fp8 import MX_BLOCK, quantize_fp8_, to_mx, to_nvfp4
from llmquiz.llm.quant.int8 import dequantize, quantize
from llmquiz.llm.quant.report import perplexity, snr_db
from llmquiz.llm.tune.targets import ALL_LINEAR, find_targets

Rounding = Callable[[Tensor], Tensor]  # fp32 [N, K] -> same

CAST = (FP16, BF16, E5M2, E4M3)  # by torch as well
NARROW = FORMATS[1:]  # a table over all codes of fp32 would be long
SHOWN = (1.0, 0.1, 257.0, 70_000.0, 1e-5, 1e-8)
RANDOM = 100_000  # numbers of any bits, cast by torch and by us
ADDEND, COUNT = 0.01, 10_000
SMALLEST_GRADIENT, LARGEST_GRADIENT, GRADIENTS = 1e-11, 1e-1, 20_000
SCALES = range(33)  # powers of two that the loss is multiplied with
OUTLIER = 100.0  # what one column in OUTLIER_EVERY is multiplied with
OUTLIER_EVERY = 128
HELD_OUT_SEED = 70_000  # the shipped model was trained on other seeds
SIZE = 256  # of the operations that are tried in 16 bits


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    device = "cpu" if params.device == "mps" else params.device  # which has neither fp64 nor fp8
    try:
        language = base_model(params.model, device=device)
    except ModelError as error:
        raise LabError(str(error)) from error
    total = sum(weight.numel() for weight in language.model.parameters())
    check_fits(estimate(4 * total), device, what="four copies of the model")
    report_codes(params, report)
    report_sums(report)
    report_gradients(params, report)
    report_weights(language.model, report)
    report_perplexity(language, params, report)
    report_operations(params, report)


def report_codes(params: Params, report: Report) -> None:
    """Limits from the codes, some numbers in bits, and torch's casts of many."""
    rows = []
    for form in FORMATS:
        sizes = (form.bits, form.maximum, form.smallest_normal, form.smallest, form.epsilon)
        rows.append((form.name, f"1+{form.exponent}+{form.mantissa}", *sizes))
    columns = ("format", "sign+exponent+mantissa", "bits", "largest", "smallest normal", "smallest", "epsilon")
    report.table("formats", columns, rows)
    bits = torch.randint(-(2**31), 2**31, (RANDOM,), generator=torch.Generator().manual_seed(params.seed))
    numbers = bits.to(torch.int32).view(torch.float32)
    for form in CAST:
        inside = numbers[numbers.abs() <= form.maximum]
        differing = int((round_to(inside, form) != inside.to(form.dtype).float()).sum())
        report.claim("as-torch", measured=differing, expected=0)
        report.claim("limits", measured=form.maximum, expected=torch.finfo(form.dtype).max)
    report.metric("e4m3_largest", E4M3.maximum)
    report.metric("e2m1_largest", E2M1.maximum)
    shown = []
    for number in SHOWN:
        for form in NARROW:
            code = encode(torch.tensor(number), form)
            shown.append((f"{number:g}", form.name, spell(int(code), form), f"{float(decode(code, form)):g}"))
    report.table("numbers and their codes", ("number", "format", "sign exponent mantissa", "kept as"), shown)


def report_sums(report: Report) -> None:
    """Count by ones, and add 0.01 many times, every sum rounded."""
    rows = []
    for form in NARROW:
        small = float(round_to(torch.tensor(ADDEND), form))
        counted, total = (repeated_sum(addend, form)[-1] for addend in (1.0, small))
        rows.append((form.name, counted, small, total))
        report.claim("counts", measured=counted, expected=2 ** (form.mantissa + 1))
        stall = form.stall(small) if small else 0.0
        report.claim("sum-stalls", measured=total, expected=stall)
        if form is E4M3:
            report.metric("e4m3_counts_to", counted)
            report.metric("e4m3_sum", total)
    columns = ("format", "counts to", f"{ADDEND:g} is", f"{COUNT:,} times {ADDEND:g}")
    report.table("sums, rounded at every step", columns, rows)


def repeated_sum(addend: float, form: FloatFormat) -> list[float]:
    """The sums of 0, 1, ..., COUNT addends. Adding a constant takes each code to another: one table says where to."""
    values = decode(torch.arange(form.overflow + 1), form)
    following = encode(values + addend, form).tolist()
    codes = [0]
    for _ in range(COUNT):
        codes.append(following[codes[-1]])
    return values[codes].tolist()


def report_gradients(params: Params, report: Report) -> None:
    """Gradients over ten decades, at every loss scale: a share is too small for the format, another too large."""
    decades = torch.empty(GRADIENTS).uniform_(math.log10(SMALLEST_GRADIENT), math.log10(LARGEST_GRADIENT))
    gradients, spread = 10**decades, math.log2(LARGEST_GRADIENT / SMALLEST_GRADIENT)
    rows = []
    for form in (BF16, FP16, E5M2, E4M3):
        lost = {}
        for power in SCALES:
            scaled = gradients * 2.0**power
            gone = (round_to(scaled, form) == 0) | (scaled > form.maximum)
            lost[power] = float(gone.float().mean())
            report.point("lost", x=power, y=100 * lost[power], series=form.name)
        window = math.log2(form.maximum / (form.smallest / 2))
        best = min(lost, key=lost.__getitem__)
        rows.append((form.name, window, 100 * lost[0], best, 100 * lost[best]))
        report.claim("window", measured=lost[best], expected=max(0.0, 1 - window / spread), tolerance=0.02)
        if form in (FP16, E4M3):
            name = "fp16" if form is FP16 else "e4m3"
            report.metric(f"{name}_lost", 100 * lost[0])
            report.metric(f"{name}_lost_at_best", 100 * lost[best])
    columns = ("format", "binades it holds", "% lost unscaled", "best scale, 2^", "% lost there")
    report.table(f"gradients over {spread:.1f} binades", columns, rows)


def per_row(x: Tensor, form: FloatFormat) -> Tensor:
    """The largest number of each row goes to the largest of the format."""
    scale = x.abs().amax(dim=1, keepdim=True).clamp(min=1e-30) / form.maximum
    return round_to(x / scale, form) * scale


def roundings(columns: int) -> dict[str, tuple[float, Rounding]]:
    """Bits a weight, its share of a scale included, and what rounds it."""
    row, block = 32 / columns, MX_BLOCK
    return {
        "fp16": (16, partial(round_to, form=FP16)),
        "bf16": (16, partial(round_to, form=BF16)),
        "int8 per row": (8 + row, lambda x: dequantize(quantize(x, axis=0))),
        "fp8 e4m3 per row": (8 + row, partial(per_row, form=E4M3)),
        "fp8 e5m2 per row": (8 + row, partial(per_row, form=E5M2)),
        "MXFP8 e4m3": (8 + 8 / block, lambda x: to_mx(x, E4M3).dequantize()),
        f"int4, groups of {block}": (4 + 32 / block, lambda x: dequantize(quantize(x, 4, group=block))),
        "fp4 e2m1 per row": (4 + row, partial(per_row, form=E2M1)),
        "MXFP4": (4 + 8 / block, lambda x: to_mx(x).dequantize()),
        "NVFP4": (4.5, lambda x: to_nvfp4(x).dequantize()),
    }


@torch.no_grad()
def report_weights(model: nn.Module, report: Report) -> None:
    """One weight of the model in every format, and again with large columns: what the other columns keep."""
    weights = [layer.weight for layer in find_targets(model, ALL_LINEAR, (nn.Linear,)).values()]
    fitting = [weight for weight in weights if isinstance(weight, Tensor) and weight.size(1) % MX_BLOCK == 0]
    if not fitting:
        raise LabError(f"no layer's width is a multiple of {MX_BLOCK}, as block scales need; use another model")
    weight = fitting[len(fitting) // 2].cpu().float()
    weight = weight / weight.std()
    ordinary = torch.arange(weight.size(1)) % OUTLIER_EVERY != 0
    large = torch.where(ordinary, weight, OUTLIER * weight)
    plain, beside, rows = {}, {}, []
    for name, (bits, rounding) in roundings(weight.size(1)).items():
        plain[name] = snr_db(weight[:, ordinary], rounding(weight)[:, ordinary])
        beside[name] = snr_db(weight[:, ordinary], rounding(large)[:, ordinary])
        rows.append((name, bits, plain[name], beside[name]))
    columns = ("format", "bits", "dB", f"beside outliers x{OUTLIER:g}, dB")
    report.table("a weight of the model: signal over rounding error", columns, rows)
    report.metric("bf16_loss", plain["fp16"] - plain["bf16"])
    for wide, narrow in (("fp16", "bf16"), ("fp8 e4m3 per row", "fp8 e5m2 per row")):
        bits = 3 if wide == "fp16" else 1
        report.claim(
            "mantissa", measured=plain[wide] - plain[narrow], expected=bits * 20 * math.log10(2), tolerance=1.0
        )
    report.metric("int8_over_fp8", plain["int8 per row"] - plain["fp8 e4m3 per row"])
    report.claim(
        "int8-closer", measured=plain["int8 per row"] - plain["fp8 e4m3 per row"], expected=5, relation="at least"
    )
    report.metric("int8_outlier_loss", plain["int8 per row"] - beside["int8 per row"])
    report.metric("fp8_outlier_loss", plain["fp8 e4m3 per row"] - beside["fp8 e4m3 per row"])
    report.claim(
        "outlier-int8", measured=plain["int8 per row"] - beside["int8 per row"], expected=20, relation="at least"
    )
    report.claim(
        "outlier-fp8", measured=plain["fp8 e4m3 per row"] - beside["fp8 e4m3 per row"], expected=3, relation="at most"
    )
    report.metric("nvfp4_over_mxfp4", plain["NVFP4"] - plain["MXFP4"])
    report.claim("blocks", measured=plain["NVFP4"] - plain["MXFP4"], expected=1, relation="at least")
    report.claim("blocks", measured=beside["MXFP4"] - beside["fp4 e2m1 per row"], expected=3, relation="at least")


def report_perplexity(language: LanguageModel, params: Params, report: Report) -> None:
    """The whole model: fp8 weights and activations, or weights alone in four bits."""
    made = islice(documents(HELD_OUT_SEED + params.seed), params.texts)
    encoded = [language.tokenizer.encode(document.text, special=True) for document in made]
    device = next(language.model.parameters()).device
    texts = [torch.tensor(tokens, device=device) for tokens in encoded]
    exact = perplexity(language.model, texts)
    rows = [("fp32", exact, 1.0)]
    ways: dict[str, Callable[[nn.Module], object]] = {
        "fp8 e4m3, weights and activations": quantize_fp8_,
        "weights in MXFP4": partial(round_weights_, rounding=lambda x: to_mx(x).dequantize()),
        "weights in NVFP4": partial(round_weights_, rounding=lambda x: to_nvfp4(x).dequantize()),
    }
    for name, convert in report.progress(ways.items(), unit="format", total=len(ways)):
        convert(model := copy.deepcopy(language.model))
        found = perplexity(model, texts)
        rows.append((name, found, found / exact))
    report.table(f"perplexity on {params.texts} texts", ("format", "perplexity", "of fp32's"), rows)
    report.metric("fp8_perplexity", rows[1][2])
    report.claim("fp8-as-good", measured=rows[1][2], expected=1.05, relation="at most")


@torch.no_grad()
def round_weights_(model: nn.Module, rounding: Rounding) -> None:
    for layer in find_targets(model, ALL_LINEAR, (nn.Linear,)).values():
        weight = layer.weight
        assert isinstance(weight, Tensor)
        weight.copy_(rounding(weight))


@torch.no_grad()
def report_operations(params: Params, report: Report) -> None:
    """Does this device compute in 16 bits? Try, hold it against fp32, and look at the clock."""
    x = torch.randn(SIZE, SIZE, device=params.device)
    heads = x.view(1, 4, -1, SIZE // 4)
    operations: dict[str, tuple[Tensor, Rounding]] = {
        "matrix product": (x, lambda x: x @ x),
        "softmax": (x, lambda x: x.softmax(dim=-1)),
        "layer norm": (x, lambda x: F.layer_norm(x, (SIZE,))),
        "attention": (heads, lambda x: F.scaled_dot_product_attention(x, x, x)),
    }
    rows, clock = [], quiet_clock(params.device, 1)
    for name, (given, operation) in operations.items():
        inputs = {form.name: given.to(form.dtype) for form in (FP32, FP16, BF16)}
        works = {form: partial(operation, each) for form, each in inputs.items()}
        seconds = interleaved_medians(works, device=params.device, clock=clock)
        for form in (FP16, BF16):
            expected = operation(inputs[form.name].float())
            error = float((works[form.name]().float() - expected).abs().max() / expected.abs().max())
            rows.append((name, form.name, error / form.epsilon, seconds[form.name] / seconds["fp32"]))
            report.claim("runs", measured=error / form.epsilon, expected=4.0, relation="at most")
    report.table(
        f"16 bits on this device: {SIZE} x {SIZE}", ("operation", "format", "error / epsilon", "time / fp32's"), rows
    )
    report.metric("fp16_time", rows[0][3])
    report.metric("bf16_time", rows[1][3])
    choice = choose_dtype(detect(params.device))
    report.note(
        f"here a model is best loaded in {str(choice.dtype).removeprefix('torch.')}: {'; '.join(choice.reasons)}"
    )
