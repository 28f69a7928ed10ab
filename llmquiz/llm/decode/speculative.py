"""Speculative decoding: a cheap draft proposes, one pass of the target judges all proposals at once (Leviathan et al.
2023, algorithm 1; Chen et al. 2023, algorithm 2).

Nothing is approximated. The draft may be as bad as it likes: it changes how many passes the target needs, never which
texts come out nor how often. Two details make it so. A proposal x is accepted with probability min(1, p(x) / q(x)), so
what the draft proposes too often is thinned out; and in place of a rejected one the token is drawn from what the draft
proposes too seldom, max(0, p - q), not from p.

Greedy decoding is the same rule with p and q that put all probability on their likeliest token: a proposal is accepted
if it is the target's own choice.

Shapes: T tokens so far, G proposals, V vocabulary. One text at a time: rows would accept different numbers of tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from llmquiz.llm.cache.base import Cache
from llmquiz.llm.decode.processors import Processor
from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.causal import CausalLM

Judge: TypeAlias = Callable[[int, Tensor, Tensor, torch.Generator | None], int]


@dataclass(frozen=True, slots=True)
class Choice:
    """How tokens are chosen from logits: by the target and the draft alike.

    Attributes:
        generator: draws tokens; without one the likeliest is taken.
        processors: applied to the logits before.
    """

    generator: torch.Generator | None = None
    processors: Sequence[Processor] = ()

    def probabilities(self, tokens: Tensor, logits: Tensor) -> Tensor:  # [1, T], [1, V] -> [V]
        """Of the token that follows `tokens`."""
        for processor in self.processors:
            logits = processor(tokens, logits)
        if self.generator is None:
            return F.one_hot(logits[0].argmax(), logits.size(-1)).float()
        return logits[0].float().softmax(-1)


class Proposal(NamedTuple):
    """Tokens [G] and the distributions [G, V] that they were drawn from."""

    tokens: Tensor
    probabilities: Tensor


class Draft(Protocol):
    """What proposes tokens."""

    def propose(self, tokens: Tensor, count: int, choice: Choice) -> Proposal:
        """At most `count` tokens that may follow `tokens` [1, T]."""
        ...


class Round(NamedTuple):
    """One pass of the target: how many tokens it judged, and how many it accepted before the one of its own."""

    proposed: int
    accepted: int


@dataclass(frozen=True, slots=True)
class Speculation:
    """What came out, tokens [1, N] without the prompt, and the passes of the target that it took (prefill apart)."""

    tokens: Tensor
    rounds: tuple[Round, ...]

    @property
    def proposed(self) -> int:
        return sum(turn.proposed for turn in self.rounds)

    @property
    def accepted(self) -> int:
        return sum(turn.accepted for turn in self.rounds)

    @property
    def passes(self) -> int:
        return len(self.rounds)


def judge(token: int, p: Tensor, q: Tensor, generator: torch.Generator | None) -> int:  # p, q: [V]
    """The token that takes the place of a proposal drawn from `q`, so that it is distributed as `p`: the proposal
    itself if it is accepted."""
    if float(torch.rand((), generator=generator, device=p.device)) < float(p[token] / q[token]):
        return token
    left = (p - q).clamp(min=0)
    return draw(left if left.any() else p, generator)  # rounding may leave nothing where p = q


def draw(probabilities: Tensor, generator: torch.Generator | None) -> int:  # [V]; they need not add up to one
    return int(torch.multinomial(probabilities, 1, generator=generator))


@torch.inference_mode()
def speculate(
    target: CausalLM,
    draft: Draft,
    prompt: Tensor,
    max_new_tokens: int,
    *,
    tokens_ahead: int,
    choice: Choice = Choice(),
    eos: Sequence[int] = (),
    cache: Cache | None = None,
    judge: Judge = judge,
) -> Speculation:
    """Continue `prompt` [1, P] as the target alone would: greedily the same tokens, by sampling the same distribution.

    Args:
        tokens_ahead: G, the most tokens that the draft proposes for a pass.
        cache: of the target, empty, with `truncate`. Without one every pass takes all tokens.
        judge: accepts or replaces a proposal; another one than the default changes what comes out.

    Raises:
        ModelError: if the prompt is no single row, the cache is not empty, or the target has too few positions.
    """
    _check(target, prompt, max_new_tokens, cache)
    tokens, end = prompt, prompt.size(1) + max_new_tokens
    rounds: list[Round] = []
    if cache is not None and prompt.size(1) > 1:
        target(prompt[:, :-1], cache, last_only=True)
    while tokens.size(1) < end and (not rounds or int(tokens[0, -1]) not in eos):
        T = tokens.size(1)
        proposal = draft.propose(tokens, min(tokens_ahead, end - T - 1), choice)
        text = torch.cat((tokens, proposal.tokens[None]), dim=1)
        logits = target(text if cache is None else text[:, cache.length :], cache)[:, T - 1 - text.size(1) :]
        tokens, accepted = _verified(tokens, proposal, logits, choice, judge, eos)
        if cache is not None:
            cache.truncate(tokens.size(1) - 1)  # the last one was never fed
        rounds.append(Round(len(proposal.tokens), accepted))
    return Speculation(tokens[:, prompt.size(1) :], tuple(rounds))


def _verified(
    tokens: Tensor, proposal: Proposal, logits: Tensor, choice: Choice, judge: Judge, eos: Sequence[int]
) -> tuple[Tensor, int]:
    """The text [1, T'] with the accepted proposals and one token of the target's, and how many were accepted."""
    for accepted, proposed in enumerate(proposal.tokens.tolist()):
        p = choice.probabilities(tokens, logits[:, accepted])
        following = judge(proposed, p, proposal.probabilities[accepted], choice.generator)
        tokens = _append(tokens, following)
        if following != proposed:
            return tokens, accepted
        if following in eos:
            return tokens, accepted + 1
    p = choice.probabilities(tokens, logits[:, -1])
    return _append(tokens, draw(p, choice.generator)), len(proposal.tokens)


def _append(tokens: Tensor, token: int) -> Tensor:  # [1, T] -> [1, T + 1]
    return torch.cat((tokens, tokens.new_full((1, 1), token)), dim=1)


class ModelDraft:
    """A smaller model of the same vocabulary, with a cache of its own, which it keeps as far as texts agree."""

    def __init__(self, model: CausalLM, cache: Cache) -> None:
        self.model, self.cache = model, cache
        self._cached = torch.empty(1, 0)  # the tokens that the cache holds, and perhaps more

    def propose(self, tokens: Tensor, count: int, choice: Choice) -> Proposal:
        """One token after the other, each drawn from the draft's own distribution."""
        T = tokens.size(1)
        length = min(self.cache.length, T - 1)
        agreeing = (self._cached[0, :length].to(tokens) == tokens[0, :length]).cumprod(0).sum()
        self.cache.truncate(int(agreeing))
        probabilities = []
        for _ in range(count):
            logits = self.model(tokens[:, self.cache.length :], self.cache, last_only=True)[:, -1]
            probabilities.append(choice.probabilities(tokens, logits))
            tokens = _append(tokens, draw(probabilities[-1], choice.generator))
        self._cached = tokens
        return Proposal(tokens[0, T:], torch.stack(probabilities) if count else torch.empty(0))


class NGramDraft:
    """What followed the last few tokens when they stood in the text before: no model at all (Saxena 2023, prompt
    lookup decoding). It never draws: q puts all probability on the token that it copies.

    Args:
        vocab_size: V of the target.
        longest: most tokens that are looked up; then fewer, down to one.
    """

    def __init__(self, vocab_size: int, longest: int = 3) -> None:
        self.vocab_size, self.longest = vocab_size, longest

    def propose(self, tokens: Tensor, count: int, choice: Choice) -> Proposal:
        copied = self._copied(tokens[0].tolist(), count)
        found = tokens.new_tensor(copied)
        return Proposal(found, F.one_hot(found.long(), self.vocab_size).float())

    def _copied(self, text: list[int], count: int) -> list[int]:
        """After the latest earlier place where the longest ending stands."""
        for length in range(min(self.longest, len(text) - 1), 0, -1):
            for place in range(len(text) - length - 1, -1, -1):
                if text[place : place + length] == text[-length:]:
                    return text[place + length : place + length + count]
        return []


def _check(target: CausalLM, prompt: Tensor, max_new_tokens: int, cache: Cache | None) -> None:
    if len(prompt) != 1:
        raise ModelError(f"speculation: {len(prompt)} prompts; it takes one text at a time, so call it for each")
    if cache is not None and cache.length:
        raise ModelError(f"speculation: the cache already holds {cache.length} tokens; reset it first")
    end, positions = prompt.size(1) + max_new_tokens, target.config.max_position
    if end > positions:
        raise ModelError(f"speculation: {end} tokens exceed the model's {positions} positions; generate fewer")
