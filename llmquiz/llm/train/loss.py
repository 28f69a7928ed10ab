"""The loss of next-token prediction: a sum and a count, never a mean.

A mean forgets how many tokens it was taken over, so means of batches of different sizes cannot be put together again:
two micro-batches with losses 2, 2, 2 and 6 have the mean loss 3, and the mean of their means is 4. Ragged answers,
gradient accumulation, several devices and evaluation all fall into that trap; whoever keeps sum and count divides once,
at the end, by all the tokens.

Shapes: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor, nn
from torch.nn import functional as F

IGNORED = -100  # the label of a position that is not to be learned; torch's and transformers' convention

Loss: TypeAlias = tuple[Tensor, Tensor]  # sum of negative log-likelihoods (nats), number of tokens: both scalars


def next_token_loss(logits: Tensor, labels: Tensor) -> Loss:  # [B, T, V], [B, T] -> two scalars
    """Sum of the negative log-likelihoods of `labels`, in nats, and how many labels there are.

    Labels are shifted already: `labels[b, t]` is the token that follows position t. transformers shifts inside the
    model; doing both trains a model to skip a token. The softmax runs in fp32 whatever the logits are in.
    """
    nll = F.cross_entropy(logits.flatten(0, -2).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    return nll, (labels != IGNORED).sum()


def language_model_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Loss:
    """`next_token_loss` of a batch of inputs [B, T] and labels [B, T]."""
    inputs, labels = batch
    return next_token_loss(model(inputs), labels)
