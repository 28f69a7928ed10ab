"""Texts of a random Markov chain: the smallest language that has something to learn.

Each token depends on the one before it alone, so a model that sees one token back can reach the chain's entropy, and a
model that sees none cannot pass that of the tokens' frequencies.
"""

from __future__ import annotations

import torch
from torch import Tensor


def chain_texts(vocab_size: int, count: int, length: int) -> Tensor:  # [count, length + 1]
    """Texts of one chain, drawn from torch's generator: inputs and, shifted by one, targets of `length` tokens."""
    following = (2 * torch.randn(vocab_size, vocab_size)).softmax(-1)
    texts = torch.randint(vocab_size, (count, length + 1))
    for t in range(length):
        texts[:, t + 1] = torch.multinomial(following[texts[:, t]], 1)[:, 0]
    return texts
