"""Perplexity: exp of the mean negative log-likelihood of a token, over all predicted tokens of all texts.

What people get wrong, one each:
- The mean is over tokens. The mean of the texts' means gives a text of two tokens the weight of one of a thousand, and
  changes when the same texts are cut up differently. So scores here are sums, and are added before they are divided.
- A text longer than the context needs a sliding window. Disjoint windows make each window's first tokens guess without
  a context they would have in use; a stride smaller than the window scores each token once, with context before it.
- Perplexity is per token, and a token is what the tokenizer says: it compares models of one tokenizer only. Bits per
  byte divide the same sum by the bytes of the text, which are the same for all.

Shapes: T tokens of a text, W of a window, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from llmquiz.llm.errors import ModelError

LogitsOf: TypeAlias = Callable[[Tensor], Tensor]  # [1, W] -> [1, W, V]


@dataclass(frozen=True, slots=True)
class Score:
    """What a model made of some text; scores of several texts are added.

    `nll` is in nats, summed over the `tokens` that were predicted: all but the first of a text. `num_bytes` is the
    length of the text in UTF-8.
    """

    nll: float = 0.0
    tokens: int = 0
    num_bytes: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(self.nll + other.nll, self.tokens + other.tokens, self.num_bytes + other.num_bytes)

    @property
    def perplexity(self) -> float:
        """Among how many equally likely tokens the model is in doubt: 1 is certainty, a uniform guess gives V.

        Raises:
            ModelError: if no token was predicted.
        """
        if not self.tokens:
            raise ModelError("no perplexity: a text of one token predicts nothing; give longer texts")
        return math.exp(self.nll / self.tokens)

    @property
    def bits_per_byte(self) -> float:
        """Bits that the model needs for a byte of the text; comparable between tokenizers if each text began with a
        token of its own (such as <|bos|>), so that every byte was predicted.

        Raises:
            ModelError: if the text was empty.
        """
        if not self.num_bytes:
            raise ModelError("no bits per byte: the text is empty")
        return self.nll / math.log(2) / self.num_bytes


def score(model: LogitsOf, tokens: Tensor, num_bytes: int, *, window: int, stride: int | None = None) -> Score:
    """Score one text of `tokens` [T] that has `num_bytes` bytes; a text of one token counts for nothing.

    Raises:
        ModelError: if the stride is not within 1..window.
    """
    if tokens.numel() < 2:
        return Score()
    losses = token_losses(model, tokens, window=window, stride=stride)
    return Score(float(losses.sum(dtype=torch.float64)), losses.numel(), num_bytes)


@torch.no_grad()
def token_losses(model: LogitsOf, tokens: Tensor, *, window: int, stride: int | None = None) -> Tensor:
    """The nats of each token but the first, [T - 1]; each is scored once.

    The model sees `window` tokens at most. The window moves on by `stride` (None: by its own length) and scores the
    tokens that are new to it, so each of them has at least window - stride + 1 tokens before it, where the text has
    them. It costs about window / stride times a single pass.

    Raises:
        ModelError: if the stride is not within 1..window.
    """
    stride = window if stride is None else stride
    if not 1 <= stride <= window:
        raise ModelError(f"a stride of {stride} does not fit a window of {window}; use 1 to {window}")
    inputs, targets = tokens[:-1], tokens[1:]
    losses = torch.empty(targets.numel(), device=tokens.device)
    scored = 0
    while scored < targets.numel():
        end = min(window if scored == 0 else scored + stride, targets.numel())
        start = max(0, end - window)
        logits = model(inputs[None, start:end])[0, scored - start :]  # [new, V]
        losses[scored:end] = F.cross_entropy(logits.float(), targets[scored:end], reduction="none")
        scored = end
    return losses
