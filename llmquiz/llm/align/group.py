"""Policy gradients from groups: the completions of one prompt are each other's baseline, so there is no value model.

Every method is an advantage and an average. Which tokens the average counts decides what the policy learns about
length: GRPO's mean of means gives each completion the same weight, so a long wrong one is punished less per token.

| method   | advantage                   | loss over tokens                         | KL to the reference  |
|----------|-----------------------------|------------------------------------------|----------------------|
| GRPO     | (r - mean) / (std + eps)    | mean over each completion, then of those | k3 in the loss       |
| Dr. GRPO | r - mean                    | sum / (completions * longest allowed)    | none                 |
| DAPO     | (r - mean) / (std + eps)    | mean over all tokens, clip higher above  | none                 |
| RLOO     | r - mean of the *others'* r | one ratio a completion, mean             | k1 inside the reward |

The first loss after sampling is zero (GRPO, RLOO: advantages sum to zero and every ratio is 1) while its gradient is
not: watch the reward, never this loss. A group whose rewards are all equal has no gradient at all.

Conventions: std is the unbiased one and eps 1e-4, as in TRL; some courses use the biased one and 1e-5, which makes
advantages sqrt(G / (G - 1)) larger. Clipping is per token in all but RLOO.

Shapes: Q prompts with G completions each, B = Q * G of them in that order, N tokens of the longest.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmquiz.llm.align.logprobs import kl_k3, sequence_logprobs


def grpo_advantages(rewards: Tensor, *, eps: float = 1e-4) -> Tensor:  # [Q, G] -> [Q, G]
    """(r - mean) / (std + eps) in each group (Shao et al. 2024, section 4.1.2).

    Dividing by the std weighs prompts: one solved with probability p counts 1 / sqrt(p (1 - p)) times as much, so the
    nearly solved and the nearly hopeless count most.
    """
    return dr_grpo_advantages(rewards) / (rewards.std(dim=1, keepdim=True) + eps)


def dr_grpo_advantages(rewards: Tensor) -> Tensor:  # [Q, G] -> [Q, G]
    """r - mean in each group, no std (Liu et al. 2025, section 3.2).

    The mean contains the completion's own reward, which makes the gradient (G - 1) / G of what it should be.
    """
    return rewards - rewards.mean(dim=1, keepdim=True)


def rloo_advantages(rewards: Tensor) -> Tensor:  # [Q, G] -> [Q, G]
    """r - mean of the others in the group: an unbiased gradient (Kool et al. 2019; Ahmadian et al. 2024).

    Exactly G / (G - 1) times Dr. GRPO's. RLOO subtracts the KL before: r = reward - beta * sum of k1 over the tokens.
    """
    group = rewards.size(1)
    return dr_grpo_advantages(rewards) * group / (group - 1)


def informative_groups(rewards: Tensor) -> Tensor:  # [Q, G] -> [Q] bool
    """Where rewards differ. DAPO samples on until its batch is full of these (Yu et al. 2025, section 3.2); the others
    cost a rollout and teach nothing."""
    return rewards.amax(dim=1) > rewards.amin(dim=1)


def overlong_penalty(lengths: Tensor, *, longest: int, buffer: int) -> Tensor:  # [B] -> [B]
    """0 up to `longest - buffer` tokens, then falling to -1 at `longest` (Yu et al. 2025, eq. 13): added to the reward,
    so that a completion cut off at the limit is not punished as if its reasoning were wrong."""
    return ((longest - buffer - lengths) / buffer).clamp(-1.0, 0.0)


def clipped_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, *, low: float = 0.2, high: float = 0.2
) -> Tensor:  # [B, N], [B, N], [B] -> [B, N]
    """-min(ratio A, clip(ratio, 1 - low, 1 + high) A) of each token, ratio = pi / pi_old (Schulman et al. 2017, eq. 7).

    The minimum makes it a pessimist: a ratio that left the interval on the profitable side has no gradient, one on the
    other side has all of it. With one update a rollout every ratio is 1 and nothing is ever clipped.
    """
    ratio = (logprobs - old_logprobs).exp()
    A = advantages.unsqueeze(-1)
    return -torch.minimum(ratio * A, ratio.clamp(1 - low, 1 + high) * A)


def clip_fraction(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, *, low: float = 0.2, high: float = 0.2
) -> Tensor:
    """The part of the tokens whose gradient the clipping took away."""
    ratio = (logprobs - old_logprobs).exp()
    A = advantages.unsqueeze(-1)
    clipped = ((ratio < 1 - low) & (A < 0)) | ((ratio > 1 + high) & (A > 0))
    return (clipped & mask).sum() / mask.sum()


def grpo_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    reference_logprobs: Tensor | None = None,
    beta: float = 0.0,
    clip: float = 0.2,
) -> Tensor:  # [B, N], [B, N], [B], [B, N] -> []
    """The mean over each completion's tokens, then over completions (Shao et al. 2024, eq. 3).

    Args:
        reference_logprobs: [B, N] of the reference policy, where `beta` is not zero. The KL is a term of the loss here,
            not of the reward; see `logprobs.kl_k3` for what that does.
    """
    loss = clipped_loss(logprobs, old_logprobs, advantages, low=clip, high=clip)
    if reference_logprobs is not None:
        loss = loss + beta * kl_k3(logprobs, reference_logprobs)
    return ((loss * mask).sum(-1) / mask.sum(-1)).mean()


def dr_grpo_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, *, longest: int, clip: float = 0.2
) -> Tensor:
    """The sum over all tokens by a constant, completions times `longest` allowed: a token weighs the same in a short
    completion as in a long one, in this batch as in the next (Liu et al. 2025, section 3.2)."""
    loss = clipped_loss(logprobs, old_logprobs, advantages, low=clip, high=clip)
    return (loss * mask).sum() / (mask.size(0) * longest)


def dapo_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
) -> Tensor:
    """The mean over all tokens of the batch, with more room above than below (Yu et al. 2025, sections 3.1, 3.3).

    An unlikely token needs a large ratio to become likely; clipping at 1.2 takes it from .01 to .012 at most. The
    higher bound keeps exploration, and the entropy, alive.
    """
    loss = clipped_loss(logprobs, old_logprobs, advantages, low=clip_low, high=clip_high)
    return (loss * mask).sum() / mask.sum()


def rloo_loss(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, *, clip: float = 0.2) -> Tensor:
    """One ratio for the whole completion, the product of its tokens' (as TRL has it): the completion is the action."""
    new, old = sequence_logprobs(logprobs, mask).unsqueeze(-1), sequence_logprobs(old_logprobs, mask).unsqueeze(-1)
    return clipped_loss(new, old, advantages, low=clip, high=clip).mean()  # [B, 1] -> []
