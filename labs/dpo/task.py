"""A reference, a hidden reward and pairs that it labels, so small that every policy is a table.

Shapes: X prompts (one a letter), N letters of a completion, C = X^N completions. Log-probs in nats.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from llmquiz.lab.sdk import Params
from llmquiz.llm.align.logprobs import token_logprobs
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import Decoder, random_decoder


@dataclass(frozen=True, slots=True)
class Size:
    """How many letters there are and how many a completion has; the model's width; pairs a step and steps."""

    letters: int
    length: int
    hidden: int
    pairs: int
    steps: int


SIZES = {"tiny": Size(3, 2, 32, 300, 60), "small": Size(5, 3, 64, 1000, 130), "base": Size(6, 4, 256, 16_000, 1000)}


@dataclass(frozen=True, slots=True)
class Task:
    """The reference with its table of log-probs [X, C], the hidden rewards [X, C], and how likely each pair is to come,
    first one chosen [X, C, C]."""

    model: Decoder
    size: Size
    steps: int
    reference: Tensor
    rewards: Tensor
    pairs: Tensor
    generator: torch.Generator

    def optimum(self, beta: float) -> Tensor:  # [X, C]
        """log of ref e^(r / beta) / Z: nothing has a larger E[r] - beta KL(policy || ref)."""
        return (self.reference + self.rewards / beta).log_softmax(dim=1)

    def kl(self, log_p: Tensor, log_q: Tensor | None = None) -> float:
        """KL(p || q), q the reference unless told, over whole completions; the mean over prompts."""
        log_q = self.reference if log_q is None else log_q
        return float((log_p.exp() * (log_p - log_q)).sum(dim=1).mean())

    def reward(self, log_p: Tensor) -> float:
        return float((log_p.exp() * self.rewards).sum(dim=1).mean())


def prepare(params: Params) -> Task:
    """A seeded random decoder as reference, and rewards that are a sum over neighbouring letters, bent into (-2, 2)."""
    size = SIZES[params.size]
    X, N = size.letters, size.length
    generator = torch.Generator().manual_seed(params.seed)
    config = ModelConfig(X, size.hidden, 1, 4, 4, size.hidden // 4, 3 * size.hidden, max_position=16)
    model = random_decoder(config, params.seed)
    with torch.no_grad():
        model.lm_head.weight *= 0.5  # flatter, so that the pairs cover every completion
        reference = completion_logprobs(model, N)
    liking = torch.randn(X, X, generator=generator)
    texts = every_text(X, N + 1)
    scores = liking[texts[:, :-1], texts[:, 1:]].sum(dim=1).view(X, -1)
    p = reference.exp()
    centred = scores - (p * scores).sum(dim=1, keepdim=True)
    rewards = 2 * torch.tanh(centred / (p * centred**2).sum(dim=1, keepdim=True).sqrt() / 2)
    pairs = 2 * p[:, :, None] * p[:, None, :] * torch.sigmoid(rewards[:, :, None] - rewards[:, None, :])
    steps = params.steps or size.steps
    reference, rewards, pairs = (table.to(params.device) for table in (reference, rewards, pairs))
    return Task(model.to(params.device), size, steps, reference, rewards, pairs, generator)


def every_text(letters: int, length: int) -> Tensor:  # [letters^length, length]
    """All texts, in the order of a number's digits: so [X * C, N + 1] is a table [X, C]."""
    texts: Tensor = torch.cartesian_prod(*[torch.arange(letters)] * length)
    return texts.view(-1, length)


def completion_logprobs(model: Decoder, length: int) -> Tensor:  # [X, C]
    """log p(completion | prompt) of every completion of every prompt, from one pass over all but their last letters."""
    letters = model.config.vocab_size
    texts = every_text(letters, length).to(model.embed_tokens.weight.device)  # prompt and all letters but the last
    logits = model(texts)
    before = token_logprobs(logits, texts).sum(dim=1, keepdim=True)  # [X^N, 1]
    table: Tensor = before + logits[:, -1].log_softmax(-1)
    return table.view(letters, -1)
