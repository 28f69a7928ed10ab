"""DPO and its family, on preferences whose best policy is known.

A small decoder writes a few letters after a prompt of one letter. A hidden reward scores what it wrote; pairs of its
own completions are labelled by that reward through the model of Bradley and Terry, P(a beats b) = sigmoid(r_a - r_b).
There are so few completions that the whole policy fits in a table: KL and expected reward are exact, and so is the
policy that DPO is after, ref e^(r / beta) / Z.

Pairs are drawn afresh at every step, as if there were no end of data: what is left is the loss, not overfitting.
A model that the user names learns from a few pairs in words besides (`own.py`).
Shapes: X prompts (one a letter), N letters of a completion, C = X^N completions, B pairs. Log-probs in nats.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from llmquiz.lab.sdk import Params, Report
from llmquiz.llm.base.load import base_model
from llmquiz.llm.train.device import fused_adamw

from .arms import SWEEP, Arm, Batch, list_arms
from .own import tune_own_model
from .task import Task, completion_logprobs, prepare

LEARNING_RATE, WARMUP = 6e-3, 10
FRONTIER = [2.0**k for k in range(4, -4, -1)]  # betas of the closed form that are drawn
LOOKS = 12  # points of each curve


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    language = base_model(params.model, device=params.device) if params.model else None  # first: it may be refused
    task = prepare(params)
    for beta in FRONTIER:
        best = task.optimum(beta)
        report.point("reward", x=task.kl(best), y=task.reward(best), series="optimum")
    arms = list_arms(task, params.beta)
    outcomes = [train(task, arm, report) for arm in arms]
    report_tables(task, arms, outcomes, report)
    report_claims(task, arms, outcomes, report)
    if language is not None:
        tune_own_model(language, params, report)


@dataclass(frozen=True, slots=True)
class Outcome:
    """An arm's policy [X, C] after training, its loss before the first step, and how much that loss changes if the
    reference is another."""

    policy: Tensor
    first_loss: float
    sensitivity: float


def train(task: Task, arm: Arm, report: Report) -> Outcome:
    """From the reference, over fresh pairs at every step."""
    policy = copy.deepcopy(task.model)
    optimizer = fused_adamw(policy.parameters(), lr=LEARNING_RATE, device=task.reference.device)
    first_loss = sensitivity = 0.0
    for step in report.progress(range(task.steps), unit="step", label=arm.title):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1.0, (step + 1) / WARMUP) * (1 - step / task.steps)
        table, rows = completion_logprobs(policy, task.size.length), draw_pairs(task)
        loss = arm.loss(gather(table, task.reference, rows, task.size.length), arm.beta).mean()
        if step == 0:
            first_loss = float(loss.detach())
            other = arm.loss(gather(table, task.reference.flip(1), rows, task.size.length), arm.beta).mean()
            sensitivity = abs(float(other.detach()) - first_loss)
        if step % -(-task.steps // LOOKS) == 0:
            report.point("reward", x=task.kl(table.detach()), y=task.reward(table.detach()), series=arm.name)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        final = completion_logprobs(policy, task.size.length)
    report.point("reward", x=task.kl(final), y=task.reward(final), series=arm.name)
    return Outcome(final, first_loss, sensitivity)


def draw_pairs(task: Task) -> tuple[Tensor, Tensor, Tensor]:
    """Prompts [B] with two samples of the reference each, the one that was chosen first."""
    X, device = len(task.reference), task.reference.device
    prompts = torch.arange(X, device=device).repeat(task.size.pairs // X)
    probabilities = task.reference.exp().cpu()[prompts.cpu()]
    samples = torch.multinomial(probabilities, 2, replacement=True, generator=task.generator).to(device)  # [B, 2]
    first, second = task.rewards[prompts, samples[:, 0]], task.rewards[prompts, samples[:, 1]]
    coin = torch.rand(len(prompts), generator=task.generator).to(device)
    first_wins = coin < torch.sigmoid(first - second)
    return (
        prompts,
        torch.where(first_wins, samples[:, 0], samples[:, 1]),
        torch.where(first_wins, samples[:, 1], samples[:, 0]),
    )


def gather(table: Tensor, reference: Tensor, rows: tuple[Tensor, Tensor, Tensor], length: int) -> Batch:
    """The log-probs of a batch from the tables of policy and reference."""
    prompts, chosen, rejected = rows
    others, completions = prompts.roll(1).repeat(2), torch.cat((chosen, rejected))
    return Batch(
        chosen=table[prompts, chosen],
        rejected=table[prompts, rejected],
        reference_chosen=reference[prompts, chosen],
        reference_rejected=reference[prompts, rejected],
        mismatched=table[others, completions],
        reference_mismatched=reference[others, completions],
        length=length,
    )


@dataclass(frozen=True, slots=True)
class Shifts:
    """How far training moved the log-probs of chosen and rejected completions (nats, over all pairs as they come), and
    how often the arm's own reward ranks a pair as its label does."""

    chosen: float
    rejected: float
    accuracy: float


def measure_shifts(task: Task, outcome: Outcome) -> Shifts:
    moved = outcome.policy - task.reference
    reward = moved if outcome.sensitivity > 0 else outcome.policy
    return Shifts(
        chosen=float((task.pairs.sum(dim=2) * moved).sum(dim=1).mean()),
        rejected=float((task.pairs.sum(dim=1) * moved).sum(dim=1).mean()),
        accuracy=float((task.pairs * (reward[:, :, None] > reward[:, None, :])).sum(dim=(1, 2)).mean()),
    )


def report_tables(task: Task, arms: list[Arm], outcomes: list[Outcome], report: Report) -> None:
    """What training did to the pairs, and where it left the policy."""
    pairs, ends = [], []
    for arm, outcome in zip(arms, outcomes, strict=True):
        shifts, policy = measure_shifts(task, outcome), outcome.policy
        away = None if arm.optimum is None else task.kl(policy, arm.optimum)
        pairs.append((arm.name, arm.beta, outcome.first_loss, shifts.accuracy, shifts.chosen, shifts.rejected))
        ends.append((arm.name, arm.beta, task.kl(policy), task.reward(policy), away, outcome.sensitivity > 0))
    report.table("pairs", ("loss", "beta", "first loss", "accuracy", "chosen", "rejected"), pairs)
    report.table("policies", ("loss", "beta", "KL", "reward", "KL to its optimum", "reference"), ends)
    best = (task.pairs * (task.rewards[:, :, None] > task.rewards[:, None, :])).sum(dim=(1, 2)).mean()
    report.note(
        f"labels are noisy: the hidden reward itself would rank {float(best):.1%} of the pairs as they are labelled"
    )


def report_claims(task: Task, arms: list[Arm], outcomes: list[Outcome], report: Report) -> None:
    sweep = outcomes[: len(SWEEP)]
    by_name = dict(zip((arm.name for arm in arms[len(SWEEP) :]), outcomes[len(SWEEP) :], strict=True))
    middle, smallest = sweep[1], measure_shifts(task, sweep[-1])
    report.metric("first_loss", middle.first_loss)
    report.claim("first-loss", measured=middle.first_loss, expected=math.log(2), tolerance=1e-5)
    report.metric("chosen_shift", smallest.chosen)
    report.metric("rejected_shift", smallest.rejected)
    report.claim("chosen-falls", measured=smallest.chosen, expected=-0.5, relation="at most")
    report.claim("chosen-falls", measured=smallest.chosen - smallest.rejected, expected=0.5, relation="at least")
    kls = [task.kl(outcome.policy) for outcome in sweep]
    report.metric("kl", kls[SWEEP.index(1.0)])
    report.metric("kl_growth", kls[1] / kls[0])
    report.claim(
        "smaller-beta-more-kl", measured=min(b / a for a, b in pairwise(kls)), expected=1.3, relation="at least"
    )
    for arm, outcome in zip(arms[:2], sweep[:2], strict=True):
        part = task.kl(outcome.policy, arm.optimum) / task.kl(task.reference, arm.optimum)
        report.claim("closed-form", measured=part, expected=0.25, relation="at most")
    further = task.kl(by_name["DPO on means"].policy) / kls[1]
    report.metric("means_kl_ratio", further)
    report.claim("sums-not-means", measured=further, expected=2.0, relation="at least")
    lost, arm = by_name["DPO, no reference"], arms[-1]
    away = task.kl(lost.policy, arm.optimum), task.kl(lost.policy, arms[1].optimum)
    report.claim("reference-anchors", measured=away[0] / away[1], expected=0.7, relation="at most")
    free = [by_name[name] for name in ("SimPO", "ORPO")]
    report.claim("reference-free", measured=sum(outcome.sensitivity for outcome in free), expected=0.0)
    least = min(task.reward(outcome.policy) for outcome in free)
    report.claim("reference-free", measured=least, expected=0.15, relation="at least")
