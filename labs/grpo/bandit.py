"""A bandit of a few arms shows exactly what a sorting model can only hint at: where the KL to the reference is taken
off decides which policy is optimal.

In the reward, it is ref e^(r / beta) / Z. In the loss, through the estimator k3, the gradient is that of KL(ref || pi),
and the optimum is another.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmquiz.lab.sdk import Params, Report
from llmquiz.llm.align.group import dr_grpo_advantages, grpo_loss, rloo_advantages, rloo_loss
from llmquiz.llm.align.logprobs import kl_divergence

ARMS, GROUPS, BANDIT_STEPS, BANDIT_BETA = 16, 64, 250, 0.2


def report_bandit(params: Params, report: Report) -> None:
    """One prompt whose completions are a few arms with known rewards: where the KL is paid decides the optimum."""
    generator = torch.Generator().manual_seed(params.seed)
    reference = torch.randn(ARMS, generator=generator).log_softmax(0)
    rewards = torch.rand(ARMS, generator=generator)
    beta = BANDIT_BETA
    optima = {
        "in the reward": (reference + rewards / beta).log_softmax(0),
        "in the loss": loss_optimum(reference, rewards, beta * params.group / (params.group - 1)),
    }
    rows: list[tuple[object, ...]] = []
    for where, other in (("in the reward", "in the loss"), ("in the loss", "in the reward")):
        learned = solve_bandit(reference, rewards, beta, params.group, where == "in the reward", generator)
        near, far = (float(kl_divergence(learned, optima[name])) for name in (where, other))
        rows.append((f"KL {where}, learned", *reward_and_kl(learned, reference, rewards), near, far))
        rows.append((f"KL {where}, optimum", *reward_and_kl(optima[where], reference, rewards), 0.0, None))
        claim = "kl-in-reward" if where == "in the reward" else "kl-in-loss"
        report.claim(claim, measured=near, expected=far / 5, relation="at most")
    columns = ("policy", "reward", "KL", "distance to its optimum", "to the other's")
    report.table(f"bandit of {ARMS} arms, beta {beta}", columns, rows)


def reward_and_kl(log_p: Tensor, reference: Tensor, rewards: Tensor) -> tuple[float, float]:
    return float((log_p.exp() * rewards).sum()), float(kl_divergence(log_p, reference))


def loss_optimum(reference: Tensor, rewards: Tensor, beta: float) -> Tensor:
    """log of beta ref / (level - r), the policy that is best for E[r] - beta KL(ref || policy); `level` makes it sum to
    one. It lies above every reward, by at most beta."""
    low, high = float(rewards.max()), float(rewards.max()) + beta
    for _ in range(60):
        level = (low + high) / 2
        too_much = float((beta * reference.exp() / (level - rewards)).sum()) > 1
        low, high = (level, high) if too_much else (low, level)
    return (beta * reference.exp() / (high - rewards)).log()


def solve_bandit(
    reference: Tensor, rewards: Tensor, beta: float, group: int, in_reward: bool, generator: torch.Generator
) -> Tensor:  # [arms] log-probs
    """Policy gradients on sampled arms: RLOO that pays for KL in the reward, or Dr. GRPO's advantage with k3 in the
    loss."""
    logits = reference.clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.05)
    mask = torch.ones(GROUPS * group, 1, dtype=torch.bool)
    for step in range(BANDIT_STEPS):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / BANDIT_STEPS)
        log_p = logits.log_softmax(0)
        arms = torch.multinomial(log_p.detach().exp(), GROUPS * group, replacement=True, generator=generator)
        new, old = log_p[arms, None], log_p.detach()[arms, None]  # [B, 1]
        if in_reward:
            paid = (rewards[arms] - beta * (old.squeeze(1) - reference[arms])).view(-1, group)
            loss = rloo_loss(new, old, rloo_advantages(paid).flatten(), mask)
        else:
            advantages = dr_grpo_advantages(rewards[arms].view(-1, group)).flatten()
            loss = grpo_loss(new, old, advantages, mask, reference_logprobs=reference[arms, None], beta=beta)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return logits.detach().log_softmax(0)
