"""Log-probabilities of given tokens, and how far two policies are apart.

The logits at position t are about token t + 1. So T tokens have T - 1 log-probabilities, and the first one of a
completion stands at the prompt's last position. An index off by one trains without an error, towards nonsense.

Shapes: B sequences, T tokens, V vocabulary, N tokens of a completion.
"""

from __future__ import annotations

import torch
from torch import Tensor


def token_logprobs(logits: Tensor, tokens: Tensor) -> Tensor:  # [B, T, V], [B, T] -> [B, T - 1]
    """log p(token t | tokens before t) for t = 1 ... T - 1, in nats.

    After a prompt of P tokens, those of the completion are `[:, P - 1 :]`. To compare with tokens sampled at a
    temperature, divide the logits by it first: that is the distribution that they came from.

    A log-softmax would keep a second [B, T, V] for the backward pass and its result too; the chosen logit less the
    log of the partition sum is the same number.
    """
    logits, following = logits[:, :-1], tokens[:, 1:].unsqueeze(-1)
    return logits.gather(-1, following).squeeze(-1) - logits.logsumexp(-1)


def sequence_logprobs(logprobs: Tensor, mask: Tensor) -> Tensor:  # [B, N], [B, N] -> [B]
    """log p(completion | prompt): the sum over the tokens that `mask` marks True.

    Padding has a log-probability as well, of a token that nobody wrote: without the mask it counts.
    """
    return (logprobs * mask).sum(-1)


def mean_logprobs(logprobs: Tensor, mask: Tensor) -> Tensor:  # [B, N], [B, N] -> [B]
    """log p(completion | prompt) per token: for the losses that ask for a mean (see `preference`), and no other."""
    return sequence_logprobs(logprobs, mask) / mask.sum(-1)


def kl_divergence(logits: Tensor, reference_logits: Tensor) -> Tensor:  # [..., V], [..., V] -> [...]
    """KL(policy || reference) in nats at each position, exact: a sum over the whole vocabulary."""
    log_p, log_q = logits.log_softmax(-1), reference_logits.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def entropy(logits: Tensor) -> Tensor:  # [..., V] -> [...]
    """Entropy of the policy in nats at each position; a token ruled out by a logit of -inf adds nothing."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p.nan_to_num(neginf=0.0)).sum(-1)


def kl_k1(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """log(p/q) of a sampled token: unbiased for KL(p || q), of high variance, and negative for many tokens.

    Schulman 2020, http://joschu.net/blog/kl-approx.html; PPO for RLHF subtracts it from the reward.
    """
    return logprobs - reference_logprobs


def kl_k3(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """q/p - 1 - log(q/p) of a sampled token: unbiased for KL(p || q), never negative, of low variance (Schulman 2020).

    Its value is unbiased; its gradient is not. On tokens sampled from p, the gradient's mean is that of KL(q || p): as
    a term of the loss (GRPO, eq. 4) it pulls towards another optimum than the same KL taken off the reward.
    """
    log_ratio = reference_logprobs - logprobs
    return torch.expm1(log_ratio) - log_ratio
