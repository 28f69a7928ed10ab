"""Drawing the next token: what a request may ask for, and where the randomness comes from.

Temperature 0 is no division by zero: it is a request not to draw at all, and has its own branch. Each sequence draws
from a generator of its own, so that it does not depend on its neighbours in the batch: one generator seeded anew for
each of five samples gives five times the same sample, and one generator for the batch ties each row to all others.

Shapes: B sequences, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llmquiz.llm.decode.processors import (
    FrequencyPenalty,
    MinP,
    PresencePenalty,
    Processor,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
    Typical,
)
from llmquiz.llm.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How to choose tokens. The defaults draw from the model's own distribution.

    Attributes:
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: how many tokens may be drawn; 0 for all.
        top_p: probability that the nucleus reaches; 1 for all tokens.
        min_p: least probability of a token as a part of the likeliest one's; 0 for none.
        typical_p: probability that the typical set reaches; 1 for all tokens.
        repetition_penalty: for tokens of prompt and answer; 1 for none.
        presence_penalty: subtracted from tokens that the answer holds; 0 for none, negative to encourage them.
        frequency_penalty: subtracted for each time that the answer holds a token.

    Raises:
        ModelError: if a number is out of its range, or not a number.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0

    def __post_init__(self) -> None:
        finite = math.isfinite(self.temperature)
        self._require("temperature", "0 or more, and finite", finite and self.temperature >= 0)
        self._require("top_k", "a whole number, 0 for all or more", type(self.top_k) is int and self.top_k >= 0)
        self._require("top_p", "above 0 and at most 1", 0 < self.top_p <= 1)
        self._require("min_p", "from 0 to 1", 0 <= self.min_p <= 1)
        self._require("typical_p", "above 0 and at most 1", 0 < self.typical_p <= 1)
        self._require("repetition_penalty", "above 0, and finite", 0 < self.repetition_penalty < math.inf)
        self._require("presence_penalty", "finite", math.isfinite(self.presence_penalty))
        self._require("frequency_penalty", "finite", math.isfinite(self.frequency_penalty))

    @property
    def greedy(self) -> bool:
        """Whether nothing is drawn."""
        return self.temperature == 0

    def processors(self, *, prompt_length: int = 0, padding: Tensor | int = 0) -> list[Processor]:
        """Those that do something, in their order (see `processors`). Filters cannot change the likeliest token, so
        greedy requests have penalties alone.

        Args:
            prompt_length: columns of the prompt with its padding, which presence and frequency do not count.
            padding: columns on the left that hold no text, for all rows or [B].
        """
        chain: list[tuple[bool, Processor]] = [
            (self.repetition_penalty != 1, RepetitionPenalty(self.repetition_penalty, padding)),
            (self.presence_penalty != 0, PresencePenalty(self.presence_penalty, prompt_length)),
            (self.frequency_penalty != 0, FrequencyPenalty(self.frequency_penalty, prompt_length)),
            (not self.greedy and self.temperature != 1, Temperature(self.temperature)),
            (not self.greedy and self.top_k > 0, TopK(self.top_k)),
            (not self.greedy and self.top_p < 1, TopP(self.top_p)),
            (not self.greedy and self.min_p > 0, MinP(self.min_p)),
            (not self.greedy and self.typical_p < 1, Typical(self.typical_p)),
        ]
        return [processor for active, processor in chain if active]

    def _require(self, name: str, wanted: str, valid: bool) -> None:
        if not valid:
            raise ModelError(f"sampling: {name} is {getattr(self, name)!r}; it must be {wanted}")


class Sampler:
    """Draws a token of each row from softmax(logits).

    An exponential race: token i rings after a time drawn from Exp(p_i), and the first to ring wins with probability
    p_i. Dividing p by Exp(1) noise and taking the largest is the same, and is what `torch.multinomial` does inside, so
    that one generator for the batch gives its tokens; no sum over the vocabulary is searched and no device is waited
    for.

    Args:
        generators: one a row, or one for the whole batch; on the device of the logits.
    """

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self.generators = list(generators)

    @classmethod
    def seeded(cls, seed: int, rows: int, device: torch.device | str = "cpu") -> Sampler:
        """Row i draws from a generator with seed `seed` + i: the same tokens however many rows there are."""
        return cls([torch.Generator(device).manual_seed(seed + row) for row in range(rows)])

    def __call__(self, logits: Tensor) -> Tensor:  # [B, V] -> [B]
        """Raises:
        ModelError: if there are neither one nor B generators.
        """
        probs = logits.softmax(-1)
        if len(self.generators) not in (1, probs.size(0)):
            raise ModelError(f"sampler: {len(self.generators)} generators for {probs.size(0)} rows; give one a row")
        noise = torch.empty_like(probs)
        for rows, generator in zip(noise.chunk(len(self.generators)), self.generators, strict=True):
            rows.exponential_(generator=generator)
        return (probs / noise).argmax(-1)


class Mirostat:
    """Keeps the surprise of the drawn tokens near `tau` bits (Basu et al. 2021; "Mirostat 2.0" of their code).

    Tokens of more than mu bits are not drawn. After each draw mu moves against the error, row by row. It works where
    `tau` lies between the surprise of always taking the likeliest token and that of drawing freely; outside, mu runs
    away and changes nothing more.

    Args:
        tau: target, in bits a token.
        sampler: draws from what is left.
        rate: how far mu moves for one bit of error.
    """

    def __init__(self, tau: float, sampler: Sampler, *, rate: float = 0.1) -> None:
        self.tau, self.sampler, self.rate = tau, sampler, rate
        self.mu: Tensor | None = None  # [B], bits

    def __call__(self, logits: Tensor) -> Tensor:  # [B, V] -> [B]
        surprise = logits.log_softmax(-1) / -math.log(2)  # bits
        mu = logits.new_full((logits.size(0),), 2 * self.tau) if self.mu is None else self.mu
        removed = surprise > torch.maximum(mu[:, None], surprise.amin(-1, keepdim=True))  # the likeliest stays
        drawn = self.sampler(logits.masked_fill(removed, -torch.inf))
        error = surprise.gather(-1, drawn[:, None])[:, 0] - self.tau
        self.mu = mu - self.rate * error
        return drawn
