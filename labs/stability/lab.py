"""Warm-up and clipping at a learning rate that is too high: what each of them bounds.

A step of SGD is as long as the gradient: clipping bounds it. A step of Adam is not: it divides by the gradient's own
size, so its first update moves every weight by the learning rate, whatever the gradient and however it was clipped;
only the learning rate bounds it, hence warm-up. Both optimizers run with neither, one, and both, from the same weights
over the same batches. Where SGD breaks differs from model to model, so its rate is raised until it does; a run whose
loss is no longer a number ends there.

Shapes: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import torch
from torch import Tensor, nn

from llmquiz.lab.sdk import Params, Report
from llmquiz.llm.base.guest import Guest, invite
from llmquiz.llm.data.markov import chain_texts
from llmquiz.llm.errors import TrainingError
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import random_decoder
from llmquiz.llm.train.device import fused_adamw
from llmquiz.llm.train.schedule import constant
from llmquiz.llm.train.trainer import Trainer

SIZES = {
    "tiny": ModelConfig(32, 32, 1, 2, 2, 16, 88),
    "small": ModelConfig(64, 64, 2, 4, 4, 16, 172),
    "base": ModelConfig(512, 512, 8, 8, 8, 64, 1376),
}
BATCH, LENGTH = 8, 16
WARMUP = 1 / 3  # of the steps
NEITHER, WARM, CLIP, BOTH = "neither", "warm-up", "clipping", "both"
SGD, ADAM = "sgd", "adam"
RAISES, FACTOR = 6, 2**0.5  # of SGD's learning rate, until it breaks
BROKEN = 10.0  # times the first loss
GUEST_STEPS, GUEST_BATCH, GUEST_LENGTH = 15, 4, 64  # of the user's own model
DRAWN = 20.0  # nats; higher losses would flatten the rest of the curves


@dataclass(frozen=True, slots=True)
class Arm:
    """One run: its losses up to where it ended, the norm of the first gradient, and the length of the first update,
    whole (`moved`) and per weight (root mean square)."""

    losses: list[float]
    grad_norm: float
    moved: float
    per_weight: float
    diverged: bool

    @property
    def final(self) -> float:
        """Mean loss of the last tenth."""
        return fmean(self.losses[-max(1, len(self.losses) // 10) :])

    @property
    def spike(self) -> float:
        """The highest loss over the first; at least BROKEN if the run broke off."""
        return max(max(self.losses) / self.losses[0], BROKEN if self.diverged else 0.0)


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    guest = invite_guest(params)
    model = random_decoder(SIZES[params.size], params.seed).to(params.device)
    texts = chain_texts(model.config.vocab_size, params.steps * BATCH, LENGTH).to(params.device)
    bench = Bench(model, torch.split(texts, BATCH), params, report)
    rates = [params.sgd_lr * FACTOR**i for i in range(RAISES)]
    for sgd_rate in report.progress(rates, unit="rate", label="looking for the rate that breaks SGD"):
        broken = bench.train(SGD, NEITHER, sgd_rate)
        if broken.spike >= BROKEN:
            break
    sgd, adam = {NEITHER: broken}, {}
    for arm in report.progress((NEITHER, WARM, CLIP, BOTH), unit="arm", label="training"):
        if arm != NEITHER:
            sgd[arm] = bench.train(SGD, arm, sgd_rate)
        adam[arm] = bench.train(ADAM, arm, params.adam_lr)
    rows = [*table_rows(SGD, sgd), *table_rows(ADAM, adam)]
    columns = ("optimizer", "arm", "first update", "per weight (rms)", "highest loss", "last loss")
    report.table(f"{params.steps} steps: sgd at {sgd_rate:.3g}, adam at {params.adam_lr:g}", columns, rows)
    report.metric("breaking_rate", sgd_rate)
    report_sgd(sgd, params, report)
    report_adam(adam, params, report)
    if guest:
        report_guest(guest, params, report)


def table_rows(optimizer: str, arms: dict[str, Arm]) -> Iterator[tuple[object, ...]]:
    for name, arm in arms.items():
        final = f"diverged at step {len(arm.losses)}" if arm.diverged else arm.final
        yield (optimizer, name, arm.moved, arm.per_weight, max(arm.losses), final)


@dataclass(frozen=True, slots=True)
class Bench:
    """What all runs share: the weights that they start from, and their batches [B, T + 1]."""

    model: nn.Module
    batches: tuple[Tensor, ...]
    params: Params
    report: Report

    def train(self, optimizer: str, arm: str, lr: float) -> Arm:
        """One run, until its steps are done or its loss is no number."""
        model, steps = copy.deepcopy(self.model), len(self.batches)
        trainer = Trainer(
            model,
            make_optimizer(model, optimizer, lr, self.params.device),
            schedule=partial(constant, peak=lr, warmup=warmup_steps(steps) if arm in (WARM, BOTH) else 0),
            max_grad_norm=self.params.max_grad_norm if arm in (CLIP, BOTH) else math.inf,
        )
        start = flat(model)
        losses, grad_norm, moved = [], 0.0, 0.0
        for step, batch in enumerate(self.batches):
            try:
                done = trainer.step([(batch[:, :-1], batch[:, 1:])])
            except TrainingError:
                break
            losses.append(done.loss)
            if step == 0:
                grad_norm, moved = done.grad_norm, float((flat(model) - start).norm())
            if step % max(1, steps // 40) == 0 and done.loss < DRAWN:
                self.report.point("loss", step, done.loss, f"{optimizer} {lr:.3g}, {arm}")
        return Arm(losses, grad_norm, moved, moved / math.sqrt(start.numel()), len(losses) < steps)


def warmup_steps(steps: int) -> int:
    return round(WARMUP * steps)


def make_optimizer(model: nn.Module, name: str, lr: float, device: str) -> torch.optim.Optimizer:
    if name == SGD:
        return torch.optim.SGD(model.parameters(), lr=lr)
    return fused_adamw(model.parameters(), lr=lr, device=device)


def flat(model: nn.Module) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def report_sgd(arms: dict[str, Arm], params: Params, report: Report) -> None:
    report.metric("spike", arms[NEITHER].spike)
    report.claim("sgd-breaks", measured=arms[NEITHER].spike, expected=BROKEN, relation="at least")
    report.metric("spike_clipped", arms[CLIP].spike)
    for name in (CLIP, BOTH):
        progress = arms[name].final / arms[name].losses[0]
        report.claim("clipped-holds", measured=arms[name].spike, expected=BROKEN / 2, relation="at most")
        report.claim("clipped-holds", measured=progress, expected=0.85, relation="at most")
    ratio = arms[NEITHER].moved / arms[CLIP].moved
    expected = max(1.0, arms[NEITHER].grad_norm / params.max_grad_norm)
    report.metric("first_update_ratio", ratio)
    report.claim("clip-bounds-sgd", measured=ratio, expected=expected, tolerance=0.02 * expected)


def report_adam(arms: dict[str, Arm], params: Params, report: Report) -> None:
    for name in (NEITHER, CLIP):
        moved = arms[name].per_weight / params.adam_lr
        report.claim("adam-ignores-clipping", measured=moved, expected=1.0, tolerance=0.02)
    report.metric("adam_first_update", arms[CLIP].per_weight)
    ratio = arms[NEITHER].per_weight / arms[WARM].per_weight
    report.metric("warmup_ratio", ratio)
    report.claim("warmup-bounds-adam", measured=ratio, expected=warmup_steps(params.steps), tolerance=1.0)
    cold, warm = fmean(arms[n].final for n in (NEITHER, CLIP)), fmean(arms[n].final for n in (WARM, BOTH))
    report.metric("loss", arms[BOTH].final)
    report.metric("gain_of_warmup", cold - warm)
    report.claim("warmup-helps-adam", measured=cold - warm, expected=0.05, relation="at least")


def invite_guest(params: Params) -> Guest | None:
    """The user's model, if one is named; to be called first, for it may be refused."""
    if not params.model:
        return None
    rows = GUEST_STEPS * GUEST_BATCH
    return invite(params.model, rows=rows, length=GUEST_LENGTH, seed=params.seed, device=params.device, trained=True)


def report_guest(guest: Guest, params: Params, report: Report) -> None:
    """A few steps of the user's model at the same rates: what bounds its first update, and what becomes of it."""
    bench = Bench(guest.model, torch.split(guest.texts, GUEST_BATCH), params, report)
    arms = {
        SGD: {arm: bench.train(SGD, arm, params.sgd_lr) for arm in (NEITHER, CLIP)},
        ADAM: {arm: bench.train(ADAM, arm, params.adam_lr) for arm in (NEITHER, WARM, CLIP, BOTH)},
    }
    rows = [row for optimizer, found in arms.items() for row in table_rows(optimizer, found)]
    columns = ("optimizer", "arm", "first update", "per weight (rms)", "highest loss", "last loss")
    rates = f"sgd at {params.sgd_lr:g}, adam at {params.adam_lr:g}"
    report.table(f"{guest.name}, {GUEST_STEPS} steps: {rates}", columns, rows)
