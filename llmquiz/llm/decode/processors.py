"""What happens to logits before a token is drawn: penalties for what was said, temperature, and filters of the tail.

The order matters, since each filter sees what the ones before it left. Ours is that of transformers' `generate`:
repetition, presence and frequency penalty, then temperature, top-k, top-p, min-p, typical. Temperature before top-p
means that a hot distribution lets more tokens into the nucleus; engines that cool or heat last (llama.cpp's default)
draw from other candidates with the same numbers.

A processor is `(tokens so far [B, T], logits [B, V]) -> logits [B, V]`; it never changes its input, and a token that it
removes gets -inf. A constraint of a search or a grammar is one as well.

Shapes: B sequences, T tokens so far, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

Processor: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def occurrences(tokens: Tensor, vocab_size: int, skip: Tensor | int = 0) -> Tensor:  # [B, T] -> [B, V]
    """How often each token of the vocabulary occurs in each row, from column `skip` on (one for all, or [B])."""
    first = skip[:, None] if isinstance(skip, Tensor) else skip
    counted = torch.arange(tokens.size(1), device=tokens.device) >= first  # [T] or [B, T]
    counts = torch.zeros(tokens.size(0), vocab_size, device=tokens.device)
    return counts.scatter_add(1, tokens, counted.expand(tokens.shape).to(counts.dtype))


@dataclass(frozen=True, eq=False, slots=True)
class RepetitionPenalty:
    """Weaken every token that occurs in prompt or answer (Keskar et al. 2019, CTRL, section 4.1).

    A positive logit is divided, a negative one multiplied. The paper divides both, which lifts a negative logit towards
    zero and makes the token likelier. How hard the penalty hits depends on where zero is, which softmax does not even
    see: adding a constant to all logits changes nothing but this.

    Args:
        penalty: above 1 to weaken, 1 to do nothing.
        skip: columns of padding on the left, which were never said: one number, or [B].
    """

    penalty: float
    skip: Tensor | int = 0

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        seen = occurrences(tokens, logits.size(-1), self.skip) > 0
        weakened = torch.where(logits < 0, logits * self.penalty, logits / self.penalty)
        return torch.where(seen, weakened, logits)


@dataclass(frozen=True, slots=True)
class PresencePenalty:
    """Subtract `penalty` from every token of the answer, once (OpenAI's API; vLLM). The prompt of `skip` tokens does
    not count."""

    penalty: float
    skip: int = 0

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        return logits - self.penalty * (occurrences(tokens, logits.size(-1), self.skip) > 0)


@dataclass(frozen=True, slots=True)
class FrequencyPenalty:
    """Subtract `penalty` for each time that a token occurs in the answer (OpenAI's API; vLLM). The prompt of `skip`
    tokens does not count."""

    penalty: float
    skip: int = 0

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        return logits - self.penalty * occurrences(tokens, logits.size(-1), self.skip)


@dataclass(frozen=True, slots=True)
class Temperature:
    """Divide by `temperature` > 0: the ratio of two probabilities goes to the power 1 / temperature, their order
    stays."""

    temperature: float

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        return logits / self.temperature


@dataclass(frozen=True, slots=True)
class TopK:
    """Keep the `k` likeliest tokens, and those that tie with the last of them (Fan et al. 2018)."""

    k: int

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        last = logits.topk(min(self.k, logits.size(-1))).values[:, -1:]  # [B, 1]
        return logits.masked_fill(logits < last, -torch.inf)


@dataclass(frozen=True, slots=True)
class TopP:
    """Keep the nucleus: the fewest tokens that together reach probability `p` (Holtzman et al. 2020, section 3.1).

    The token that crosses `p` belongs to it, so the likeliest token always stays.
    """

    p: float

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        return _keep_mass(logits, logits.argsort(descending=True), self.p)


@dataclass(frozen=True, slots=True)
class MinP:
    """Keep tokens of at least `p` times the probability of the likeliest (Nguyen et al. 2024, section 3).

    The threshold falls with the model's confidence; a flat tail of a thousand tokens does not get in by its sum.
    """

    p: float

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        probs = logits.softmax(-1)
        return logits.masked_fill(probs < self.p * probs.amax(-1, keepdim=True), -torch.inf)


@dataclass(frozen=True, slots=True)
class Typical:
    """Keep the tokens whose surprise is nearest to the expected one, the entropy, until they reach probability `p`
    (Meister et al. 2023, locally typical sampling). The likeliest token may be dropped for being too obvious."""

    p: float

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        surprise = -logits.log_softmax(-1)
        entropy = (surprise * surprise.neg().exp()).nansum(-1, keepdim=True)  # a removed token adds inf * 0
        return _keep_mass(logits, (surprise - entropy).abs().argsort(), self.p)


def _keep_mass(logits: Tensor, order: Tensor, mass: float) -> Tensor:  # [B, V], [B, V] -> [B, V]
    """Keep tokens in this order as long as those before them have not reached the mass."""
    probs = logits.softmax(-1).gather(-1, order)
    removed = probs.cumsum(-1) - probs >= mass
    return logits.masked_fill(removed.scatter(-1, order, removed), -torch.inf)
