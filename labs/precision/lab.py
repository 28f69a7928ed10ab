"""Number formats: range, resolution, and what each of them does to training.

Four small experiments, each predicted from the bits of the format: count and double until something gives; add a small
number many times; send gradients of every size through fp16; train with updates smaller than the weights' spacing.
Nothing here is about speed: on a CPU a narrow format is often slower.

Shapes: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from llmquiz.lab.sdk import Params, Report
from llmquiz.llm.data.markov import chain_texts
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import Decoder, random_decoder
from llmquiz.llm.quant.formats import BF16, FP16, FP32, FloatFormat
from llmquiz.llm.train.device import autocast
from llmquiz.llm.train.loss import next_token_loss
from llmquiz.llm.train.precision import (
    LossScaler,
    MasterWeights,
    compensated_sum,
    running_sum,
)

from .guest import invite_guest, report_guest

SIZES = {
    "tiny": ModelConfig(32, 32, 1, 2, 2, 16, 88),
    "small": ModelConfig(64, 64, 2, 4, 4, 16, 172),
    "base": ModelConfig(512, 512, 8, 8, 8, 64, 1376),
}
FORMATS = {form.name: form for form in (FP32, BF16, FP16)}
COMPARED = tuple(FORMATS)
ADDEND, COUNT = 0.01, 10_000
SMALLEST_GRADIENT, LARGEST_GRADIENT, GRADIENTS = 1e-11, 1e-1, 200_000
USUAL_SCALE, FIRST_SCALE = 2.0**16, 2.0**24  # the second overflows, so that the scaler has something to do
BATCH, LENGTH, HELD_OUT = 16, 16, 64  # sequences, tokens, sequences
WHOLE, NARROW, STOCHASTIC, MASTER, AUTOCAST = (
    "fp32",
    "bf16 weights",
    "bf16, stochastic rounding",
    "bf16, fp32 master weights",
    "fp32 weights, bf16 autocast",
)


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    guest = invite_guest(params)
    limits = {name: probe(FORMATS[name].dtype) for name in COMPARED}
    sums = add_many_times()
    lost = {name: lost_gradients(FORMATS[name].dtype, params.device, 1.0) for name in COMPARED}
    lost_scaled = lost_gradients(torch.float16, params.device, USUAL_SCALE)
    report_limits(limits, report)
    report_sums(sums, report)
    report_gradients(lost["fp16"], lost_scaled, params.device, report)
    rows = []
    for name in COMPARED:
        rows.append((name, *limits[name], *sums[name], lost[name], lost_scaled if name == "fp16" else None))
    columns = ("format", "largest", "smallest", "counts to", "10^4 x 0.01", "compensated", "gradients lost", "at 2^16")
    report.table("what the bits allow", columns, rows)
    train_all(params, report)
    if guest:
        report_guest(guest, FORMATS.values(), params, report)


def probe(dtype: torch.dtype) -> tuple[float, float, float]:
    """The largest number, the smallest above zero, and how far adding 1 goes; found by trying."""
    one = torch.ones((), dtype=dtype)
    power = last(doubled(one), lambda x: bool(x.isfinite()))
    largest, step = power, power / 2
    while bool((largest + step).isfinite()) and bool(largest + step > largest):
        largest, step = largest + step, step / 2
    smallest = last(halved(one), lambda x: bool(x > 0))
    counts_to = last(doubled(one), lambda x: bool(x + 1 > x)) * 2
    return float(largest), float(smallest), float(counts_to)


def doubled(x: Tensor) -> Iterator[Tensor]:
    while True:
        yield x
        x = x * 2


def halved(x: Tensor) -> Iterator[Tensor]:
    while True:
        yield x
        x = x / 2


def last(numbers: Iterable[Tensor], good: Callable[[Tensor], bool]) -> Tensor:
    """The last of `numbers` before the first that is not good; the first of them must be."""
    found = torch.tensor(math.nan)
    for number in numbers:
        if not good(number):
            break
        found = number
    return found


def report_limits(limits: dict[str, tuple[float, float, float]], report: Report) -> None:
    for name, found in limits.items():
        form = FORMATS[name]
        for measured, expected in zip(found, (form.maximum, form.smallest, form.counts_to), strict=True):
            report.claim("limits", measured=measured, expected=expected)
    report.metric("fp16_largest", limits["fp16"][0])
    report.metric("fp16_smallest", limits["fp16"][1])
    report.metric("bf16_counts_to", limits["bf16"][2])


def add_many_times() -> dict[str, tuple[float, float]]:
    """The running sum of COUNT times ADDEND in each format, and the compensated one."""
    sums = {}
    for name in COMPARED:
        values = torch.full((COUNT,), ADDEND).to(FORMATS[name].dtype)
        sums[name] = (float(running_sum(values)), float(compensated_sum(values)))
    return sums


def report_sums(sums: dict[str, tuple[float, float]], report: Report) -> None:
    for name in ("bf16", "fp16"):
        report.claim("sum-stalls", measured=sums[name][0], expected=FORMATS[name].stall(ADDEND))
        error = abs(sums[name][1] / (COUNT * ADDEND) - 1)
        report.claim("compensated", measured=error, expected=0.02, relation="at most")
    report.metric("running_sum_bf16", sums["bf16"][0])
    report.metric("running_sum_fp16", sums["fp16"][0])


class Gradients:
    """A weight whose gradients are given: log-uniform in size, narrowed on their way back as autocast would."""

    def __init__(self, device: str) -> None:
        low, high = math.log10(SMALLEST_GRADIENT), math.log10(LARGEST_GRADIENT)
        self.wanted = 10 ** torch.empty(GRADIENTS).uniform_(low, high).to(device)
        self.weight = nn.Parameter(torch.zeros(GRADIENTS, device=device))

    def loss(self, dtype: torch.dtype) -> Tensor:
        return (self.weight.to(dtype).float() * self.wanted).sum()


def lost_gradients(dtype: torch.dtype, device: str, scale: float) -> float:
    """Share of gradients that arrive as zero at a loss multiplied by `scale`."""
    gradients = Gradients(device)
    torch.autograd.backward(gradients.loss(dtype) * scale)
    assert gradients.weight.grad is not None
    return float((gradients.weight.grad == 0).float().mean())


def report_gradients(lost: float, lost_scaled: float, device: str, report: Report) -> None:
    decades = math.log10(LARGEST_GRADIENT / SMALLEST_GRADIENT)
    expected = math.log10(FORMATS["fp16"].smallest / 2 / SMALLEST_GRADIENT) / decades
    report.metric("lost_gradients", lost)
    report.metric("lost_gradients_scaled", lost_scaled)
    report.claim("underflow", measured=lost, expected=expected, tolerance=0.01)
    report.claim("loss-scale", measured=lost_scaled, expected=0.0)
    ours, theirs = settled_scales(device)
    report.metric("settled_scale", ours)
    report.claim("scaler", measured=ours, expected=theirs)


def settled_scales(device: str) -> tuple[float, float]:
    """The scale of our scaler and of torch's after backing off from one that overflows."""
    gradients = Gradients(device)
    optimizer = torch.optim.SGD([gradients.weight], lr=0.0)
    ours, theirs = LossScaler(FIRST_SCALE), torch.amp.GradScaler(device, init_scale=FIRST_SCALE)
    for _ in range(10):
        torch.autograd.backward(ours.scaled(gradients.loss(torch.float16)))
        ours.unscale([gradients.weight])
        optimizer.zero_grad()
        torch.autograd.backward(theirs.scale(gradients.loss(torch.float16)))
        theirs.step(optimizer)
        theirs.update()
        optimizer.zero_grad()
    return ours.scale, theirs.get_scale()


def train_all(params: Params, report: Report) -> None:
    """The same model and batches with weights kept in four ways; what counts is how much of fp32's progress is made."""
    model = random_decoder(SIZES[params.size], params.seed).to(params.device).bfloat16().float()  # one start for all
    texts = chain_texts(model.config.vocab_size, params.steps * BATCH + HELD_OUT, LENGTH).to(params.device)
    expected = frozen_share(model, FORMATS["bf16"], params.lr)
    gains, frozen, rows = {}, {}, []
    for way in report.progress((WHOLE, NARROW, STOCHASTIC, MASTER, AUTOCAST), unit="way", label="training"):
        before, after, frozen[way] = train(copy.deepcopy(model), way, texts, params, report)
        gains[way] = before - after
        rows.append((way, before, after, gains[way] / gains[WHOLE], frozen[way]))
    columns = ("weights", "loss before", "after", "of fp32's progress", "unmoved by step 1")
    report.table(f"{params.steps} steps at a learning rate of {params.lr:g}", columns, rows)
    report.metric("loss", rows[0][2])
    report.metric("frozen_share", frozen[NARROW])
    report.claim("frozen", measured=frozen[NARROW], expected=expected, tolerance=0.01)
    for name, way in {"narrow": NARROW, "stochastic": STOCHASTIC, "master": MASTER, "autocast": AUTOCAST}.items():
        report.metric(f"progress_{name}", gains[way] / gains[WHOLE])
    report.claim("stalls", measured=gains[NARROW] / gains[WHOLE], expected=0.3, relation="at most")
    for way in (STOCHASTIC, MASTER, AUTOCAST):
        report.claim("goes-on", measured=gains[way] / gains[WHOLE], expected=0.9, relation="at least")


def frozen_share(model: Decoder, form: FloatFormat, lr: float) -> float:
    """Share of weights that Adam's first step, `lr` up or down, cannot move: it is at most half their spacing."""
    stuck = sum(int((form.spacing(weight) / 2 >= lr).sum()) for weight in model.parameters())
    return stuck / model.config.num_parameters()


def train(model: Decoder, way: str, texts: Tensor, params: Params, report: Report) -> tuple[float, float, float]:
    """The loss on held-out texts before and after, and the share of weights that the first step left as they were."""
    if way in (NARROW, STOCHASTIC, MASTER):
        model.bfloat16()
    optimizer = make_optimizer(model, way, params.lr)
    start = [weight.detach().clone() for weight in model.parameters()]
    held_out, before, unmoved = texts[:HELD_OUT], 0.0, 0
    for step, batch in enumerate(torch.split(texts[HELD_OUT:], BATCH)):
        if step % max(1, params.steps // 20) == 0:
            with torch.no_grad():
                report.point("loss", step, found := float(mean_loss(model, held_out, way)), way)
            before = before or found
        torch.autograd.backward(mean_loss(model, batch, way))
        optimizer.step()
        model.zero_grad()
        if step == 0:
            unmoved = sum(int((new == old).sum()) for new, old in zip(model.parameters(), start, strict=True))
    with torch.no_grad():
        after = float(mean_loss(model, held_out, way))
    return before, after, unmoved / model.config.num_parameters()


def mean_loss(model: Decoder, texts: Tensor, way: str) -> Tensor:
    with autocast(texts.device, "bf16" if way == AUTOCAST else "fp32"):
        nll, tokens = next_token_loss(model(texts[:, :-1]), texts[:, 1:])
    return nll / tokens


def make_optimizer(model: Decoder, way: str, lr: float) -> torch.optim.Optimizer | MasterWeights:
    def adam(weights: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(weights, lr=lr, weight_decay=0.0, betas=(0.9, 0.95))

    if way in (STOCHASTIC, MASTER):
        return MasterWeights(model.parameters(), adam, stochastic=way == STOCHASTIC)
    return adam(list(model.parameters()))
