"""The losses that are compared, right and wrong, and the policy that each should end at.

Shapes: X prompts, C completions, B pairs. Log-probs in nats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from llmquiz.llm.align.preference import dpo_loss, ipo_loss, kto_kl, kto_loss, orpo_loss, simpo_loss

from .task import Task


@dataclass(frozen=True, slots=True)
class Batch:
    """Log-probs [B] of chosen and rejected completions under policy and reference, [2B] of completions under prompts
    that are not theirs (KTO), and how many letters they have."""

    chosen: Tensor
    rejected: Tensor
    reference_chosen: Tensor
    reference_rejected: Tensor
    mismatched: Tensor
    reference_mismatched: Tensor
    length: int

    @property
    def sums(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.chosen, self.rejected, self.reference_chosen, self.reference_rejected

    @property
    def means(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        chosen, rejected, reference_chosen, reference_rejected = (logprob / self.length for logprob in self.sums)
        return chosen, rejected, reference_chosen, reference_rejected


@dataclass(frozen=True, slots=True)
class Arm:
    """A loss with its beta, and the policy [X, C] that it should end at, where that is known."""

    name: str
    beta: float
    loss: Callable[[Batch, float], Tensor]
    optimum: Tensor | None = None

    @property
    def title(self) -> str:
        return f"{self.name}, beta {self.beta:g}"


def dpo(batch: Batch, beta: float) -> Tensor:
    return dpo_loss(*batch.sums, beta=beta)


def dpo_on_means(batch: Batch, beta: float) -> Tensor:
    """Wrong: means where sums belong."""
    return dpo_loss(*batch.means, beta=beta)


def dpo_without_reference(batch: Batch, beta: float) -> Tensor:
    """Wrong: the reference forgotten."""
    return dpo_loss(batch.chosen, batch.rejected, 0 * batch.chosen, 0 * batch.rejected, beta=beta)


def ipo(batch: Batch, beta: float) -> Tensor:
    return ipo_loss(*batch.means, beta=beta)


def kto(batch: Batch, beta: float) -> Tensor:
    good = torch.ones_like(batch.chosen, dtype=torch.bool)
    kl = kto_kl(batch.mismatched, batch.reference_mismatched)
    policy, reference = (batch.chosen, batch.rejected), (batch.reference_chosen, batch.reference_rejected)
    return kto_loss(torch.cat(policy), torch.cat(reference), torch.cat((good, ~good)), kl, beta=beta)


def simpo(batch: Batch, beta: float) -> Tensor:
    return simpo_loss(*batch.means[:2], beta=beta)


def orpo(batch: Batch, beta: float) -> Tensor:
    return orpo_loss(*batch.means[:2], beta=beta)


SWEEP = (4.0, 2.0, 1.0, 0.5)  # of DPO's beta, in units of the parameter; wrong ways are compared at the second


def list_arms(task: Task, beta: float) -> list[Arm]:
    """DPO at several betas, its relatives, and two mistakes, each with its optimum where there is a formula for it."""
    p, r, N = task.reference.exp(), task.rewards, task.size.length
    wins = (torch.sigmoid(r[:, :, None] - r[:, None, :]) * p[:, None, :]).sum(dim=2)  # P(beats the reference) [X, C]
    middle = SWEEP[1] * beta
    return [
        *(Arm("DPO", scale * beta, dpo, task.optimum(scale * beta)) for scale in SWEEP),
        Arm("IPO", beta, ipo, (task.reference + N * wins / beta).log_softmax(dim=1)),
        Arm("KTO", beta, kto),
        Arm("SimPO", 4 * beta, simpo),
        Arm("ORPO", beta, orpo),
        Arm("DPO on means", middle, dpo_on_means, task.optimum(middle / N)),
        Arm("DPO, no reference", middle, dpo_without_reference, (r / middle).log_softmax(dim=1)),
    ]
