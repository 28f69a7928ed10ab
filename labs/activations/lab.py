"""ReLU, GELU and SwiGLU at equal parameters.

SwiGLU has a third matrix. Given the width of the others it would win by being half as large again, so each layer here
has 8 hidden^2 weights: 4 hidden wide for ReLU and GELU, 8/3 hidden for SwiGLU. The three models see the same texts,
whose next token is looked up by the two before it and is now and then replaced by noise: a table that the feed-forward
layers must learn by heart. Meanwhile ReLU's units are counted: which are above zero, and which never are.

Shapes: B batch, T tokens, V vocabulary, D hidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmquiz.lab.sdk import Params, Report
from llmquiz.llm.model.block import Design, TransformerLM
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.feed_forward import Activation, equal_width, feed_forward
from llmquiz.llm.train.device import fused_adamw
from llmquiz.llm.train.schedule import warmup_cosine

from .guest import invite_guest, report_guest

ACTIVATIONS: tuple[Activation, ...] = ("relu", "gelu", "swiglu")
VOCABULARY, LENGTH, NOISE = 16, 24, 0.2
HELD_OUT = 256  # texts


@dataclass(frozen=True, slots=True)
class Size:
    hidden: int  # a multiple of three, so that the parameters are equal to the last one
    layers: int
    batch: int
    steps: int
    rate: float


SIZES = {"tiny": Size(24, 1, 8, 30, 5e-3), "small": Size(48, 2, 16, 300, 5e-3), "base": Size(384, 6, 128, 4000, 1e-3)}


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    guest = invite_guest(params)
    count_parameters(params, report)
    look_at_curves(report)
    texts = Texts(params)
    report.metric("floor_loss", texts.floor)
    models, rows = {}, []
    for activation in ACTIVATIONS:
        models[activation], before = train(texts, activation, params, report)
        loss = held_out_loss(models[activation], texts)
        active, dead = activity(models[activation], texts)
        if activation == "relu":
            report.metric("relu_active_before", before)
            report.metric("relu_active", active)
            report.metric("relu_dead", dead)
            report.claim("half-at-first", measured=before, expected=0.5, tolerance=0.05)
            report.claim("sparser-after", measured=active, expected=before - 0.05, relation="at most")
        report.metric(f"{activation}_loss", loss)
        rows.append((activation, equal_width(SIZES[params.size].hidden, activation), loss, active, dead))
    gain = rows[0][2] - rows[2][2]
    report.metric("swiglu_gain", gain)
    report.claim("swiglu-no-worse", measured=gain, expected=0.0, relation="at least")
    report.claim(
        "small-difference", measured=max(r[2] for r in rows) - min(r[2] for r in rows), expected=0.3, relation="at most"
    )
    columns = ("activation", "width", "nats a token", "share above zero", "share never above zero")
    report.table("at equal parameters, on texts not trained on", columns, rows)
    if guest:
        report_guest(guest, report)


def shape(size: Size, activation: Activation) -> ModelConfig:
    width = equal_width(size.hidden, activation)
    return ModelConfig(VOCABULARY, size.hidden, size.layers, 4, 4, size.hidden // 4, width)


def count_parameters(params: Params, report: Report) -> None:
    """Of one feed-forward layer each, and of a SwiGLU that is as wide as the others."""
    size = SIZES[params.size]
    counts = {
        activation: sum(p.numel() for p in feed_forward(shape(size, activation), activation).parameters())
        for activation in ACTIVATIONS
    }
    wide = sum(p.numel() for p in feed_forward(shape(size, "relu"), "swiglu").parameters())
    report.metric("layer_parameters", counts["swiglu"])
    report.metric("unfair_ratio", wide / counts["relu"])
    report.metric("swiglu_width", equal_width(size.hidden, "swiglu"))
    report.claim("eight-thirds", measured=counts["swiglu"], expected=counts["relu"])


def look_at_curves(report: Report) -> None:
    """What a unit passes on and what it learns at negative inputs, from the functions themselves."""
    x = torch.linspace(-3, -0.1, 200, dtype=torch.float64, requires_grad=True)
    bends: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu}
    silent, errors = {}, []
    for name, bend in bends.items():
        (slope,) = torch.autograd.grad(bend(x).sum(), x)
        silent[name] = float((slope == 0).double().mean())
        errors.append(float((bend(x) - bend(-x) - x).detach().abs().max()))
    report.metric("relu_silent", silent["relu"])
    report.claim("neither-odd-nor-even", measured=max(errors), expected=1e-12, relation="at most")
    more = silent["relu"] - max(silent["gelu"], silent["silu"])
    report.claim("only-relu-silent", measured=more, expected=1.0, tolerance=0.05)


class Texts:
    """Token t is looked up by tokens t - 2 and t - 1, and one in five is replaced by any.

    Attributes:
        floor: nats a token that remain for who knows the table.
        held_out: [B, T + 2], not trained on.
    """

    def __init__(self, params: Params) -> None:
        generator = torch.Generator().manual_seed(params.seed)
        self.table = torch.randint(VOCABULARY, (VOCABULARY, VOCABULARY), generator=generator)
        self.held_out = self.sample(HELD_OUT, generator).to(params.device)
        wrong = NOISE / VOCABULARY
        right = 1 - NOISE + wrong
        self.floor = -right * math.log(right) - (VOCABULARY - 1) * wrong * math.log(wrong)

    def sample(self, batch: int, generator: torch.Generator) -> Tensor:  # [B, T + 2]
        first = torch.randint(VOCABULARY, (2, batch), generator=generator)
        any_token = torch.randint(VOCABULARY, (LENGTH, batch), generator=generator)
        replaced = torch.rand(LENGTH, batch, generator=generator) < NOISE
        steps = [*first]
        for noise, hit in zip(any_token, replaced, strict=True):
            steps.append(torch.where(hit, noise, self.table[steps[-2], steps[-1]]))
        return torch.stack(steps, dim=1)


def next_token_mean(model: nn.Module, texts: Tensor) -> Tensor:  # [B, T + 2] -> scalar, nats a token
    """Of the tokens that have two before them."""
    return F.cross_entropy(model(texts[:, :-1])[:, 1:].flatten(0, 1), texts[:, 2:].flatten())


def train(texts: Texts, activation: Activation, params: Params, report: Report) -> tuple[TransformerLM, float]:
    """The trained model, and the share of its units that were above zero before."""
    size = SIZES[params.size]
    model = TransformerLM(shape(size, activation), Design(activation=activation), seed=params.seed).to(params.device)
    before, _ = activity(model, texts)
    optimizer = fused_adamw(model.parameters(), lr=size.rate, device=params.device, betas=(0.9, 0.98))
    generator, losses = torch.Generator().manual_seed(params.seed + 1), []
    for step in report.progress(range(size.steps), unit="step", label=activation):
        for group in optimizer.param_groups:
            group["lr"] = warmup_cosine(step, warmup=20, total=size.steps, peak=size.rate)
        optimizer.zero_grad()
        loss = next_token_mean(model, texts.sample(size.batch, generator).to(params.device))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
        if step % 10 == 9:
            report.point("training_loss", x=step + 1, y=fmean(losses[-10:]), series=activation)
    return model, before


@torch.no_grad()
def held_out_loss(model: TransformerLM, texts: Texts) -> float:
    return float(next_token_mean(model, texts.held_out))


@torch.no_grad()
def activity(model: TransformerLM, texts: Texts) -> tuple[float, float]:
    """Share of the units' inputs that are above zero, and share of units that never are, over held-out texts."""
    above: list[Tensor] = []  # [units] a layer: how often

    def count(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        above.append((output > 0).float().mean(dim=(0, 1)))

    bends = [name for name in dict(model.named_modules()) if name.endswith(_bent(model))]
    hooks = [model.get_submodule(name).register_forward_hook(count) for name in bends]
    model(texts.held_out[:, :-1])
    for hook in hooks:
        hook.remove()
    often = torch.cat(above)
    return float(often.mean()), float((often == 0).float().mean())


def _bent(model: TransformerLM) -> str:
    """The projection whose output goes through the activation."""
    return "gate_proj" if model.design.activation == "swiglu" else "up_proj"
