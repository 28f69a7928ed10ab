"""Generalised advantage estimation: how much better an action was than the critic expected (Schulman et al. 2016,
equation 16).

    delta_t = r_t + gamma V(s_t+1) - V(s_t)        A_t = delta_t + gamma lam A_t+1

lam = 1 is the return minus the value: no bias, much variance. lam = 0 is one step's surprise: little variance, as
biased as the critic. An episode stops in one of two ways, and mixing them up is the usual fault: where it *terminated*
nothing follows, so V(s_t+1) counts as 0 and A_t+1 must not leak in from another episode; where the rollout was merely
*cut*, the future is real and the critic's V of the state after the last step stands in for it.

The critic that is trained must not see a gradient here, or its target would run ahead of it: all inputs are detached.

Shapes: B rows, T steps. Step t has the state s_t, its value, and the reward paid for the action taken there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmquiz.llm.errors import TrainingError


def gae(
    rewards: Tensor,
    values: Tensor,
    dones: Tensor,
    *,
    gamma: float = 1.0,
    lam: float = 0.95,
    bootstrap: Tensor | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # [B, T] three times -> [B, T] twice
    """Advantages, and the returns A_t + V(s_t) that the critic is trained towards. Neither carries a gradient.

    Args:
        dones: True where the episode terminated with this step.
        bootstrap: [B], the value of the state after the last step, for rows that were cut; zero if left out.
        mask: [B, T], False at padding, which may stand anywhere: it is skipped, and gets 0 and 0.

    Raises:
        TrainingError: if the shapes differ; a value of [B, T, 1] would broadcast and train on nonsense.
    """
    if rewards.dim() != 2 or not rewards.shape == values.shape == dones.shape:
        raise TrainingError(
            f"gae: rewards {tuple(rewards.shape)}, values {tuple(values.shape)} and dones {tuple(dones.shape)} "
            "must all be [batch, steps]"
        )
    rewards, values, alive = rewards.detach(), values.detach(), (~dones.bool()).to(values.dtype)
    real = torch.ones_like(rewards, dtype=torch.bool) if mask is None else mask.bool()
    advantages = torch.zeros_like(values)
    next_advantage = torch.zeros_like(values[:, 0])  # [B]
    next_value = next_advantage if bootstrap is None else bootstrap.detach()
    for t in reversed(range(values.size(1))):
        delta = rewards[:, t] + gamma * alive[:, t] * next_value - values[:, t]
        advantage = delta + gamma * lam * alive[:, t] * next_advantage
        advantages[:, t] = advantage
        next_advantage = torch.where(real[:, t], advantage, next_advantage)
        next_value = torch.where(real[:, t], values[:, t], next_value)
    return torch.where(real, advantages, 0.0), torch.where(real, advantages + values, 0.0)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:  # [...] twice -> scalar
    """The mean over the True places of `mask`, token-weighted: long rows count for more. Zero if there are none."""
    return torch.where(mask, x, 0.0).sum() / mask.sum().clamp(min=1)


def whiten(x: Tensor, mask: Tensor, *, eps: float = 1e-8) -> Tensor:  # [...] twice -> [...]
    """Shifted and scaled to mean 0 and variance 1 over the True places; 0 elsewhere.

    The variance divides by n, not n - 1, so that a single number gives 0 rather than 0 / 0.
    """
    mean = masked_mean(x, mask)
    variance = masked_mean((x - mean).square(), mask)
    return torch.where(mask, (x - mean) * (variance + eps).rsqrt(), 0.0)
