"""Where the norm stands, and which: depth, warm-up, and what LayerNorm does that RMSNorm leaves out.

First nothing is trained: the gradient of the last layer against the depth of the stack tells already which placement
will be hard to start. Then the same narrow model learns the same Markov chain with each placement, with and without
warm-up. A model that ignores its input can reach the entropy of single tokens, and no less: that is where a stack ends
up whose first steps were too large. The chain's own entropy is the floor.

Shapes: B batch, T tokens, V vocabulary, N layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from llmquiz.lab.sdk import Params, Report, growth_exponent, interleaved_medians, quiet_clock
from llmquiz.llm.model.block import Design, Placement, TransformerLM
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.norms import LayerNorm, RMSNorm
from llmquiz.llm.train.device import fused_adamw
from llmquiz.llm.train.schedule import constant

from .guest import invite_guest, report_guest

VOCABULARY, LENGTH, BATCH, TEXTS = 32, 16, 8, 512
DEPTHS, INITS = (2, 4, 8, 16, 32), 4  # stacks whose gradients are measured, and seeds that are averaged
PLACEMENTS: tuple[Placement, ...] = ("pre", "post", "deep")
LAST = 20  # steps whose losses are averaged to the final one
EPS = 1e-5


@dataclass(frozen=True, slots=True)
class Size:
    """A model, and how long it is trained; warm-up takes the first half."""

    layers: int
    hidden: int
    steps: int
    rate: float


SIZES = {"tiny": Size(2, 16, 24, 6e-3), "small": Size(6, 32, 160, 6e-3), "base": Size(16, 256, 1000, 1e-3)}


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    guest = invite_guest(params)
    measure_gradients(params, report)
    chain = Chain(params)
    train_all(chain, params, report)
    compare_norms(params, report)
    if guest:
        report_guest(guest, report)


def make_model(size: Size, placement: Placement, norm: Any, params: Params, seed: int) -> TransformerLM:
    """Everything but the norm as in the first Transformers: ReLU, sinusoids."""
    shape = ModelConfig(VOCABULARY, size.hidden, size.layers, 4, 4, size.hidden // 4, 4 * size.hidden)
    return TransformerLM(shape, Design(placement, norm, "relu", "sinusoidal"), seed=seed).to(params.device)


def next_token_mean(model: nn.Module, texts: Tensor) -> Tensor:  # [B, T + 1] -> scalar, nats a token
    return F.cross_entropy(model(texts[:, :-1]).flatten(0, 1), texts[:, 1:].flatten())


def measure_gradients(params: Params, report: Report) -> None:
    """The gradient of the last layer's feed-forward weights, in stacks of several depths that were never trained."""
    size = SIZES[params.size]
    for placement in PLACEMENTS:
        for depth in report.progress(DEPTHS, unit="depth", label=f"gradients, {placement}-norm"):
            make = partial(make_model, replace(size, layers=depth), placement, "layer", params)
            norms = [last_gradient(make(INITS * params.seed + i), params) for i in range(INITS)]
            report.point("last_gradient", x=depth, y=fmean(norms), series=placement)
        report.metric(f"{placement}_exponent", growth_exponent(report.series("last_gradient", placement)))
    deep = report.series("last_gradient", "deep")
    report.metric("deep_gradient_fall", deep[0][1] / deep[-1][1])
    exponents = {name: growth_exponent(report.series("last_gradient", name)) for name in PLACEMENTS}
    report.claim("post-keeps-large", measured=exponents["post"], expected=-0.05, relation="at least")
    report.claim("pre-falls", measured=exponents["pre"], expected=-0.15, relation="at most")
    report.claim("deep-falls", measured=exponents["deep"], expected=-0.5, tolerance=0.15)


def last_gradient(model: TransformerLM, params: Params) -> float:
    texts = torch.randint(VOCABULARY, (BATCH, 2 * LENGTH + 1), generator=torch.Generator().manual_seed(params.seed))
    *_, last = model.layers
    weight = last.get_parameter("mlp.down_proj.weight")
    (gradient,) = torch.autograd.grad(next_token_mean(model, texts.to(params.device)), [weight])
    return float(gradient.norm())


class Chain:
    """Texts [B, T + 1] in which the next token depends on this one alone, with what can be learnt about them.

    Attributes:
        floor: nats a token that remain for who knows the chain.
        unigram: nats a token for who knows only how often each token comes.
    """

    def __init__(self, params: Params) -> None:
        generator = torch.Generator().manual_seed(params.seed)
        table = (2.5 * torch.randn(VOCABULARY, VOCABULARY, generator=generator)).softmax(-1)  # [V, V]
        steps = [torch.randint(VOCABULARY, (TEXTS,), generator=generator)]
        for _ in range(LENGTH):
            steps.append(torch.multinomial(table[steps[-1]], 1, generator=generator)[:, 0])
        texts = torch.stack(steps, dim=1)
        entropy = -(table * table.log()).sum(-1)  # [V]
        shares = texts[:, 1:].flatten().bincount(minlength=VOCABULARY) / texts[:, 1:].numel()
        self.floor = float(entropy[texts[:, :-1]].mean())
        self.unigram = float(-torch.special.xlogy(shares, shares).sum())
        self.texts = texts.to(params.device)

    def batches(self, steps: int, seed: int) -> Sequence[Tensor]:
        """The same for every model."""
        generator = torch.Generator().manual_seed(seed)
        return [self.texts[torch.randint(TEXTS, (BATCH,), generator=generator)] for _ in range(steps)]


def train_all(chain: Chain, params: Params, report: Report) -> None:
    steps = SIZES[params.size].steps
    report.metric("unigram_loss", chain.unigram)
    report.metric("floor_loss", chain.floor)
    losses = {}
    for placement in PLACEMENTS:
        for name, warmup in (("cold", 0), ("warm", steps // 2)):
            losses[placement, name] = train(chain, placement, "layer", warmup, params, report)
            report.metric(f"{placement}_{name}_loss", losses[placement, name])
    rms = train(chain, "pre", "rms", 0, params, report)
    report.metric("pre_rms_loss", rms)
    report.metric("norm_difference", abs(rms - losses["pre", "cold"]))
    gain = {placement: losses[placement, "cold"] - losses[placement, "warm"] for placement in PLACEMENTS}
    report.metric("post_warmup_gain", gain["post"])
    report.claim("post-needs-warmup", measured=gain["post"], expected=0.2, relation="at least")
    report.claim("others-do-not", measured=max(gain["pre"], gain["deep"]), expected=0.1, relation="at most")
    report.claim("same-quality", measured=abs(rms - losses["pre", "cold"]), expected=0.1, relation="at most")
    rows: list[tuple[object, ...]] = [
        (f"{placement}-norm", "layer", losses[placement, "cold"], losses[placement, "warm"]) for placement in PLACEMENTS
    ]
    rows += [("pre-norm", "rms", rms, None), ("single tokens", None, chain.unigram, None)]
    report.table(
        "nats a token", ("model", "norm", "no warm-up", "warm-up"), [*rows, ("floor", None, chain.floor, None)]
    )


def train(chain: Chain, placement: Placement, norm: Any, warmup: int, params: Params, report: Report) -> float:
    """Nats a token over the last steps."""
    size = SIZES[params.size]
    model = make_model(size, placement, norm, params, params.seed)
    optimizer = fused_adamw(model.parameters(), lr=size.rate, device=params.device, betas=(0.9, 0.98))
    series, losses = f"{placement} {norm}{' warm' if warmup else ''}", []
    batches = chain.batches(size.steps, params.seed)
    for step, texts in enumerate(report.progress(batches, unit="step", label=series)):
        for group in optimizer.param_groups:
            group["lr"] = constant(step, peak=size.rate, warmup=warmup)
        optimizer.zero_grad()
        loss = next_token_mean(model, texts)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
        if step % 5 == 4:
            report.point("training_loss", x=step + 1, y=fmean(losses[-5:]), series=series)
    return fmean(losses[-LAST:])


class _Passes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations that read or write a whole vector; those on one number a token are free beside them."""

    def __init__(self, numel: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numel, self.count = numel, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        touched = [tensor for tensor in (*args, result) if isinstance(tensor, Tensor)]
        self.count += any(tensor.numel() == self.numel for tensor in touched)
        return result


def compare_norms(params: Params, report: Report) -> None:
    """The two formulas on inputs with a mean: their passes over a vector, what torch's own say, and their times."""
    width = 16 * SIZES[params.size].hidden
    x = torch.randn(256, width, device=params.device) + 5.0
    ours = {"LayerNorm": LayerNorm(width, EPS), "RMSNorm": RMSNorm(width, EPS)}
    theirs = {"LayerNorm": nn.LayerNorm(width, EPS), "RMSNorm": nn.RMSNorm(width, EPS)}
    rows: list[list[Any]] = []
    works: dict[tuple[str, str], Any] = {}
    with torch.no_grad():
        for name in ours:
            own, other = ours[name].to(params.device), theirs[name].to(params.device)
            works |= {(name, "own"): partial(own, x), (name, "torch"): partial(other, x)}
            with _Passes(x.numel()) as passes:
                y = own(x)
            report.metric(f"{name.lower()}_passes", passes.count)
            error = float((y - other(x)).abs().max())
            rows.append([name, passes.count, float(y.mean()), error])
        seconds = interleaved_medians(works, device=params.device, repeats=15, clock=quiet_clock(params.device, 1))
    report.claim("same-as-torch", measured=max(row[3] for row in rows), expected=1e-5, relation="at most")
    mean = rows[1][2]
    report.metric("rmsnorm_output_mean", mean)
    report.claim("mean-stays", measured=mean, expected=math.sqrt(25 / 26), tolerance=0.01)
    report.claim("fewer-passes", measured=rows[1][1] / rows[0][1], expected=4 / 7, tolerance=1e-9)
    base = seconds["LayerNorm", "torch"]
    for row in rows:
        row += [seconds[row[0], "own"] / base, seconds[row[0], "torch"] / base]
    columns = ("norm", "passes", "output mean", "error to torch", "time x torch LayerNorm", "torch's own x")
    report.table(f"inputs of mean 5 and deviation 1, width {width}", columns, rows)
