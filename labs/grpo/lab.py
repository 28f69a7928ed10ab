"""GRPO and its relatives: a model that sorts digits one time in four is rewarded by a checker until it sorts.

The model is first taught by demonstrations that disagree: of the same digits, some sort upwards, some downwards, some
only copy. Imitation makes it as good as its teachers, a mixture. The checker pays 1 for digits sorted upwards with an
end token after them, else 0. Each method starts from that same model and draws groups of completions.

`training.py` has the task and the methods, `bandit.py` what can be known exactly; with --model, `own.py` lets the
reader's own model learn sums.
"""

from __future__ import annotations

import torch

from llmquiz.lab.sdk import Params, Report
from llmquiz.llm.align.logprobs import token_logprobs
from llmquiz.llm.model.decoder import random_decoder
from llmquiz.llm.train.device import fused_adamw

from .bandit import report_bandit
from .own import load_own, report_own
from .training import METHODS, SIZES, Evaluation, Lab, evaluate, first_step, train

PROBED = 24  # prompts


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    own = load_own(params) if params.model else None  # first of all: what cannot work is refused at once
    report_bandit(params, report)
    lab = prepare(params, report)
    report_first_step(lab, report)
    before = evaluate(lab, lab.reference)
    rows: list[tuple[object, ...]] = [("imitation", *before.cells(), None, None)]
    chosen = METHODS if params.method == "all" else (params.method,)
    after = []
    for name in chosen:
        policy, spent = train(lab, name, report)
        after.append(evaluate(lab, policy))
        rows.append((name, *after[-1].cells(), spent.clipped, spent.rollouts))
    report_learning(before, after, report)
    report.table(f"sorting {lab.size.digits} digits", ("method", *lab.columns), rows)
    if own:
        report_own(own, report)


def prepare(params: Params, report: Report) -> Lab:
    """A model taught by demonstrations that disagree."""
    size = SIZES[params.size]
    model = random_decoder(size.config, params.seed).to(params.device)
    generators = (torch.Generator(device).manual_seed(params.seed) for device in ("cpu", params.device))
    lab = Lab(model, size, params, *generators)
    optimizer = fused_adamw(model.parameters(), lr=1e-2, device=params.device)
    for step in report.progress(range(size.demonstrations), unit="step", label="demonstrations"):
        optimizer.param_groups[0]["lr"] = 1e-2 * min(1.0, (step + 1) / 10) * (1 - step / size.demonstrations)
        tokens = lab.demonstrations(128)
        loss = -token_logprobs(model(tokens), tokens)[:, size.digits :].mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return lab


def report_first_step(lab: Lab, report: Report) -> None:
    """Losses and gradients before any update; and those of a task that is too hard, or too easy."""
    rollout = lab.groups(lab.reference, PROBED)
    rewards = lab.rewards(rollout)
    rows: list[tuple[str, float | None, float]] = []
    for name in METHODS:
        loss, gradient = first_step(lab, name, rollout, rewards)
        rows.append((name, loss, gradient))
        if name == "grpo":
            report.metric("first_loss", loss)
            report.metric("first_gradient", gradient)
            report.claim("first-loss", measured=abs(loss), expected=0.0, tolerance=1e-5)
            report.claim("first-loss", measured=gradient, expected=0.01, relation="at least")
    for reward in (0.0, 1.0):
        gradient = max(first_step(lab, name, rollout, torch.full_like(rewards, reward))[1] for name in METHODS)
        rows.append((f"any, all rewards {reward:.0f}", None, gradient))
        report.claim("equal-groups", measured=gradient, expected=0.0, tolerance=1e-6)
    report.table("first step", ("method", "loss", "gradient norm"), rows)


def report_learning(before: Evaluation, after: list[Evaluation], report: Report) -> None:
    """Every method must learn; the first one's numbers are the metrics."""
    first = after[0]
    report.metric("reward_before", before.reward)
    report.metric("reward_after", first.reward)
    report.metric("best_of_group_before", before.best_of_group)
    report.metric("equal_groups_before", before.equal_groups)
    report.metric("equal_groups_after", first.equal_groups)
    report.metric("entropy_after", first.entropy)
    report.metric("kl", first.kl)
    for evaluation in after:
        report.claim("reward-rises", measured=evaluation.reward - before.reward, expected=0.3, relation="at least")
        gain = evaluation.reward - before.reward, evaluation.best_of_group - before.best_of_group
        report.claim("sharpens", measured=gain[1], expected=0.75 * gain[0], relation="at most")
        wasted = evaluation.equal_groups - before.equal_groups
        report.claim("success-starves", measured=wasted, expected=0.2, relation="at least")
