"""Learning from preferences without a reward model: DPO and the losses that came after it.

Which number goes in is half of each method. DPO and KTO take the *sum* of a completion's token log-probabilities, that
is log p(completion); IPO, SimPO and ORPO take the *mean* per token (`mean_logprobs`). Means given to DPO train without
an error, with a beta as many times smaller as the completion is long.

| loss  | log-probs | reference | data        |
|-------|-----------|-----------|-------------|
| DPO   | sum       | yes       | pairs       |
| IPO   | mean      | yes       | pairs       |
| KTO   | sum       | yes       | good or bad |
| SimPO | mean      | no        | pairs       |
| ORPO  | mean      | no        | pairs       |

The reference is the policy as it was before the first step, frozen: its log-probabilities are constants, and may be
computed once and stored. Left out (zeros), DPO pushes away from the uniform policy instead of from where it started.

Shapes: B pairs (KTO: completions). Every loss is returned per pair [B]; its mean is what is minimised. Nats.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def dpo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> Tensor:  # 4 x [B] -> [B]
    """-log sigmoid(beta * h), h = log(pi/ref)(chosen) - log(pi/ref)(rejected) (Rafailov et al. 2023, eq. 7).

    beta * log(pi/ref) is a reward model in disguise: the policy that is best for it, ref e^(r/beta) / Z, is pi itself,
    and Z cancels in the difference. The loss sees that difference alone, so both log-probabilities may fall together.

    Takes sums. At the first step policy = reference, so h = 0 and the loss is ln 2.

    Args:
        beta: the price of a nat of KL to the reference, in rewards; smaller lets the policy go further.
        label_smoothing: the part of the labels that is taken to be flipped, below 1/2 (Mitchell 2023, "cDPO"). Then h
            has a finite target; without it, a pair seen again and again drives h to infinity.
    """
    h = beta * ((policy_chosen - reference_chosen) - (policy_rejected - reference_rejected))
    return -(1 - label_smoothing) * F.logsigmoid(h) - label_smoothing * F.logsigmoid(-h)


def ipo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    beta: float = 0.1,
) -> Tensor:  # 4 x [B] -> [B]
    """(h - 1 / (2 beta))^2 with DPO's h (Azar et al. 2023, eq. 17, where beta is tau).

    A regression: past the target, the margin is pulled back. So deterministic labels cannot drive it to infinity.

    Takes means, as TRL does on the word of the authors: the paper writes sums, whose loss grows with the length. With
    completions of N tokens, this beta is the paper's tau times N. The first loss is 1 / (4 beta^2).
    """
    h = (policy_chosen - reference_chosen) - (policy_rejected - reference_rejected)
    return (h - 1 / (2 * beta)) ** 2


def kto_loss(
    policy: Tensor,
    reference: Tensor,
    desirable: Tensor,
    kl: Tensor,
    *,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:  # [B], [B], [B] bool, [] -> [B]
    """1 - sigmoid(beta (h - kl)) of a good completion, 1 - sigmoid(beta (kl - h)) of a bad one, h = log(pi/ref)
    (Ethayarajh et al. 2024, section 4.1).

    No pairs: a thumb up or down for each completion. The sigmoid saturates on both sides, so examples that are far off
    are given up, not fought for. Takes sums. The first loss is 1/2.

    Args:
        kl: from `kto_kl`: the point where a gain turns into a loss.
        desirable_weight: raise it where good examples are rare, until weight times number is 1 to 4/3 of the bad ones'.
    """
    h = beta * (policy - reference - kl)
    return torch.where(
        desirable, desirable_weight * (1 - torch.sigmoid(h)), undesirable_weight * (1 - torch.sigmoid(-h))
    )


def kto_kl(policy_mismatched: Tensor, reference_mismatched: Tensor) -> Tensor:  # [B], [B] -> []
    """KTO's estimate of KL(policy || reference), not below zero and without a gradient.

    The completions belong to *other* prompts of the batch (roll them by one): samples of the policy would be right, but
    cost a generation at every step. So it is a biased stand-in, and a batch of one has none.
    """
    return (policy_mismatched - reference_mismatched).mean().clamp(min=0).detach()


def simpo_loss(policy_chosen: Tensor, policy_rejected: Tensor, *, beta: float = 2.0, gamma: float = 1.0) -> Tensor:
    """-log sigmoid(beta (mean log-prob chosen - mean log-prob rejected) - gamma) (Meng et al. 2024, eq. 6).

    The reward is what ranks completions when they are generated, the mean log-probability; gamma is the margin by which
    the chosen one shall win. Nothing holds the policy near where it began but a low learning rate and few steps.

    Takes means [B]; there is no reference. beta is an order of magnitude larger than DPO's, for means are small.
    """
    return -F.logsigmoid(beta * (policy_chosen - policy_rejected) - gamma)


def orpo_loss(policy_chosen: Tensor, policy_rejected: Tensor, *, beta: float = 0.1) -> Tensor:  # 2 x [B] -> [B]
    """NLL of the chosen one - beta log sigmoid(log odds(chosen) - log odds(rejected)), odds = p / (1 - p), p the
    geometric mean of the token probabilities (Hong et al. 2024, eq. 6-7; beta is their lambda).

    Supervised fine-tuning and preferences in one stage, from a base model, without a reference: the NLL keeps the
    chosen log-probability up. Takes means. TRL's NLL also counts the prompt's tokens; this one counts the completion's.
    """
    margin = log_odds(policy_chosen) - log_odds(policy_rejected)
    return -policy_chosen - beta * F.logsigmoid(margin)


def log_odds(logprob: Tensor) -> Tensor:
    """log(p / (1 - p)) from log p, exact where p is near 1; a certain completion would have infinite odds."""
    logprob = logprob.clamp(max=-1e-6)
    return logprob - torch.log(-torch.expm1(logprob))
