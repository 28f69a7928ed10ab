"""QAT: what training can get back of two bits, and what it is fair to compare that with.

The language is a Markov source of order two, so the best possible loss, its entropy, is known, and a model's loss is
measured without sampling noise: its gap to the entropy is KL(source || model) over held-out contexts. One small model
is trained; then it is rounded, or trained on for the same further steps: in full precision, with fake quantization, and
in a way that looks like it and is not, with the stored weights rounded after every update.

A model that was trained longer is better whatever its bits. So the twin that went on in full precision is what a QAT
model stands beside, not the model that both began from.

Shapes: N sequences, L tokens, V symbols.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmquiz.lab.sdk import Params, Report, interleaved_medians, quiet_clock
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import random_decoder
from llmquiz.llm.quant.qat import FakeQuantLinear, add_fake_quantization, export_, fake_quantize
from llmquiz.llm.quant.rtn import Grid, quantize, quantize_model_
from llmquiz.llm.train.device import fused_adamw
from llmquiz.llm.train.schedule import warmup_cosine
from llmquiz.llm.train.trainer import Trainer

WIDTHS = (8, 4, 3, 2)  # bits that rounding is tried at
SHARPNESS = 2.0  # standard deviation of the source's logits: a few likely symbols after each pair
EXAM = 48  # sequences
EVALUATIONS = 6  # points of a curve
FIRST_RATE, NEXT_RATE = 1e-2, 3e-3  # peaks of the two parts of the training
START, FP32 = "trained", "trained on in fp32"
BY_RANGE, BY_STEP, ROUNDED = "QAT, range of the weights", "QAT, learned step", "weights rounded after each step"
TURNS = 5


@dataclass(frozen=True)
class Size:
    """How much of everything; widths are multiples of a head's 16."""

    symbols: int
    length: int
    width: int
    steps: int
    batch: int


SIZES = {
    "tiny": Size(6, 16, 32, 20, 8),
    "small": Size(12, 32, 64, 130, 16),
    "base": Size(24, 64, 256, 2000, 64),
}


class Source:
    """P(next | two symbols before), drawn once, [V, V, V]."""

    def __init__(self, symbols: int, generator: torch.Generator) -> None:
        self.table = (SHARPNESS * torch.randn(symbols, symbols, symbols, generator=generator)).softmax(-1)
        self.generator = generator

    def sample(self, count: int, length: int) -> Tensor:  # [N, L + 1]
        """Sequences in which inputs and labels overlap by `length`."""
        symbols = [torch.randint(self.table.size(0), (count,), generator=self.generator) for _ in range(2)]
        while len(symbols) < length + 3:
            rows = self.table[symbols[-2], symbols[-1]]  # [N, V]
            symbols.append(torch.multinomial(rows, 1, generator=self.generator)[:, 0])
        return torch.stack(symbols[2:], dim=1)


class School:
    """Trains every model on the same batches and puts it before the same exam."""

    def __init__(self, size: Size, params: Params, report: Report) -> None:
        self.size, self.device, self.seed, self.report = size, params.device, params.seed, report
        source = Source(size.symbols, torch.Generator().manual_seed(params.seed))
        self.text = source.sample(2000, size.length).to(self.device)
        unseen = source.sample(EXAM, size.length)
        self.inputs = unseen[:, :-1].to(self.device)
        self.truth = source.table[unseen[:, :-2], unseen[:, 1:-1]].to(self.device)  # [N, L - 1, V]

    @torch.no_grad()
    def gap(self, model: nn.Module) -> float:
        """Nats a token above the entropy of the source."""
        predicted = model(self.inputs)[:, 1:].log_softmax(-1)  # the first position sees one symbol only
        return float(F.kl_div(predicted, self.truth, reduction="none").sum(-1).mean())

    def teach(
        self, name: str, model: nn.Module, steps: int, rate: float, after: Callable[[nn.Module], object] | None = None
    ) -> float:
        """Train for some steps, calling `after` with the model after each, and give the model's gap."""
        schedule = partial(warmup_cosine, warmup=steps // 10, total=steps, peak=rate)
        trainer = Trainer(model, fused_adamw(model.parameters(), lr=rate, device=self.device), schedule=schedule)
        generator = torch.Generator().manual_seed(self.seed)
        for step in self.report.progress(range(1, steps + 1), unit="step", label=name):
            rows = self.text[torch.randint(len(self.text), (self.size.batch,), generator=generator)]
            trainer.step([(rows[:, :-1], rows[:, 1:])])
            if after is not None:
                after(model)
            if step == steps or step % max(1, steps // EVALUATIONS) == 0:
                self.report.point("gap", x=step, y=self.gap(model), series=name)
        return self.gap(model)


def run(params: Params, report: Report) -> None:
    """Train, round, train on."""
    torch.set_num_threads(1)
    size = SIZES[params.size]
    school = School(size, params, report)
    heads = size.width // 16
    config = ModelConfig(size.symbols, size.width, 2, heads, heads, 16, 2 * size.width, max_position=size.length)
    model = random_decoder(config, params.seed).to(params.device)
    start = school.teach(START, model, size.steps, FIRST_RATE)
    rounded = {bits: school.gap(round_to(model, bits)) for bits in WIDTHS}
    twins: dict[str, nn.Module] = {name: copy.deepcopy(model) for name in (FP32, BY_RANGE, BY_STEP, ROUNDED)}
    trained = train_on(school, twins, params.bits)
    report_gaps(start, rounded, trained, params.bits, report)
    report_codes(model, twins, params.bits, report)
    report_export(twins[BY_STEP], school, params.bits)
    report_torch(model, params, report)


def round_to(model: nn.Module, bits: int) -> nn.Module:
    """A copy with rounded weights, the range of each row chosen for the least error."""
    copied = copy.deepcopy(model)
    quantize_model_(copied, Grid(bits, clip=True))
    return copied


def train_on(school: School, twins: dict[str, nn.Module], bits: int) -> dict[str, float]:
    """Gaps of the twins after the same further steps."""
    add_fake_quantization(twins[BY_RANGE], Grid(bits))
    add_fake_quantization(twins[BY_STEP], Grid(bits, symmetric=True), learned_step=True)
    after = {ROUNDED: partial(quantize_model_, grid=Grid(bits))}
    steps = school.size.steps // 2
    return {name: school.teach(name, twin, steps, NEXT_RATE, after.get(name)) for name, twin in twins.items()}


def report_gaps(start: float, rounded: dict[int, float], trained: dict[str, float], bits: int, report: Report) -> None:
    """Everybody's gap, and what of the damage was repaired, beside the twin in fp32."""
    best, learned = trained[FP32], trained[BY_STEP]
    rows = [(START, 32, start, start - best)]
    rows += [("rounded", width, gap, gap - best) for width, gap in rounded.items()]
    rows += [(name, 32 if name == FP32 else bits, gap, gap - best) for name, gap in trained.items()]
    columns = ("model", "bits", "gap", f"above '{FP32}'")
    report.table("gap to the entropy of the source (nats)", columns, rows)
    repaired = 100 * (rounded[bits] - learned) / (rounded[bits] - best)
    report.metric("repaired", repaired)
    report.claim("rescued", measured=repaired, expected=60.0, relation="at least")
    report.metric("fp32_gain", start / best)
    report.claim("longer-is-better", measured=start / best, expected=1.05, relation="at least")
    report.claim("price-remains", measured=learned / best, expected=1.05, relation="at least")
    report.claim("bits-cost", measured=rounded[WIDTHS[0]] / start, expected=1.0, tolerance=0.05)


def report_codes(model: nn.Module, twins: dict[str, nn.Module], bits: int, report: Report) -> None:
    """How many weights ended at another point of the grid than they began at: in QAT, and where the stored weights were
    rounded after each step, so that no update could wait for the next."""
    before = codes_of(model, bits)
    moved = {name: 100 * float((codes_of(twins[name], bits) != before).double().mean()) for name in (BY_RANGE, ROUNDED)}
    report.table("codes that further training changed", ("trained by", "%"), list(moved.items()))
    report.metric("codes_changed", moved[BY_RANGE])
    report.metric("codes_changed_rounded", moved[ROUNDED])
    report.claim("master-weights", measured=moved[ROUNDED], expected=moved[BY_RANGE] / 4, relation="at most")


def codes_of(model: nn.Module, bits: int) -> Tensor:
    """The codes of all layers but the head, in one row."""
    layers = [layer for path, layer in model.named_modules() if isinstance(layer, nn.Linear | FakeQuantLinear)]
    return torch.cat([quantize(layer.weight, Grid(bits)).codes().flatten() for layer in layers[:-1]])


@torch.no_grad()
def report_export(model: nn.Module, school: School, bits: int) -> None:
    """From fake to real: packed codes, and plain layers of what they stand for."""
    layers = [layer for layer in model.modules() if isinstance(layer, FakeQuantLinear)]
    dense = sum(layer.weight.nbytes for layer in layers)
    expected = model(school.inputs)
    packed = sum(code.nbytes for code in export_(model).values())
    difference = (model(school.inputs) - expected).abs().max()
    report = school.report
    report.claim("export-exact", measured=difference, expected=0.0, tolerance=0.0)
    report.metric("weights_ratio", dense / packed)
    rows = [("fp32", dense, 32.0), (f"codes and fp16 scales, {bits} bits", packed, 32 * packed / dense)]
    report.table("the layers' weights", ("stored as", "bytes", "bits each"), rows)


def report_torch(model: nn.Module, params: Params, report: Report) -> None:
    """One weight: its rounded values, their gradient and the time, beside torch's kernel."""
    layer = next(layer for layer in model.modules() if isinstance(layer, nn.Linear))
    grid, weight = Grid(params.bits), layer.weight.detach().repeat(4, 4).requires_grad_()
    scale, zero = grid.fit(weight.detach())
    upstream = torch.randn(weight.shape, generator=torch.Generator().manual_seed(params.seed)).to(weight.device)
    flat_scale, flat_zero = scale[:, 0], zero[:, 0].int()

    def ours() -> tuple[Tensor, Tensor]:
        out = fake_quantize(weight, scale, zero, grid)
        return out.detach(), torch.autograd.grad(out, weight, upstream)[0]

    def theirs() -> tuple[Tensor, Tensor]:
        out = torch.fake_quantize_per_channel_affine(weight, flat_scale, flat_zero, 0, 0, grid.top)
        return out.detach(), torch.autograd.grad(out, weight, upstream)[0]

    for found, wanted in zip(ours(), theirs(), strict=True):
        report.claim(
            "same-as-torch", measured=(found - wanted).abs().max() / wanted.abs().max(), expected=0.0, tolerance=1e-5
        )
    clock = quiet_clock(params.device, 1)
    seconds = interleaved_medians({"ours": ours, "torch": theirs}, device=params.device, repeats=TURNS, clock=clock)
    report.metric("speed_of_torch", seconds["ours"] / seconds["torch"])
    rows = [(name, 1e6 * taken, seconds["torch"] / taken) for name, taken in seconds.items()]
    report.table(
        f"fake quantization of {tuple(weight.shape)}, forward and backward", ("by", "µs", "of torch's speed"), rows
    )
