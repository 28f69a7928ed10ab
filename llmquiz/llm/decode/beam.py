"""Beam search: keep the W likeliest beginnings at every step instead of one (Sutskever et al. 2014, section 3.2).

It is no exact search: a beginning that falls out of the beam never returns, even if the best text starts with it. So a
wider beam may find a worse text, and only a beam as wide as there are texts finds the best one for sure.

Finished hypotheses leave the beam. A sum of log-probabilities only falls as a text grows, so by sums the short texts
win; a hypothesis that ends is therefore scored by sum / length^length_penalty, and joins the W best that have ended.
Beginnings still compete by their sums, since all have the same length. These are transformers' rules, token for token.

Shapes: B prompts of one length P, W beams, V vocabulary, T tokens so far, N new tokens at most, K candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from llmquiz.llm.cache.base import Cache
from llmquiz.llm.decode.processors import Processor
from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.causal import CausalLM

EarlyStopping = Literal["never"] | bool


@dataclass(frozen=True, slots=True)
class Beams:
    """The hypotheses found, best first.

    Attributes:
        tokens: [B, W, N] without the prompt; one that ended is filled with its end token.
        scores: [B, W], sum of log-probabilities over length^length_penalty; minus infinity where fewer were found.
        lengths: [B, W], new tokens with the end token.
    """

    tokens: Tensor
    scores: Tensor
    lengths: Tensor


@torch.inference_mode()
def beam_search(
    model: CausalLM,
    prompt: Tensor,
    max_new_tokens: int,
    *,
    beams: int,
    length_penalty: float = 1.0,
    early_stopping: EarlyStopping = False,
    eos: Sequence[int] = (),
    cache: Cache | None = None,
    processors: Sequence[Processor] = (),
) -> Beams:
    """The best continuations of each `prompt` [B, P] that a beam of `beams` finds.

    Args:
        length_penalty: 0 scores by the sum of log-probabilities, 1 by their mean; more favours longer texts.
        early_stopping: when a prompt with W finished hypotheses is done. True: at once. False: when the best beginning,
            scored as if it ended now, is no better than the worst of them; with a positive penalty it might still
            become so. "never": when it provably cannot.
        eos: tokens that end a text.
        cache: empty, for B rows; it holds B * W afterwards. Without one, all tokens are fed at every step.
        processors: change the log-probabilities, as in transformers; rows are [B * W, T].

    Raises:
        ModelError: if there is no beam, the cache is not empty, or prompt and new tokens exceed the model's positions.
    """
    _check(model, prompt, max_new_tokens, beams, cache)
    B, W, N = len(prompt), beams, max_new_tokens
    ends = torch.tensor(list(eos), dtype=prompt.dtype, device=prompt.device)
    pool = _Pool(prompt.new_zeros(B, W, N))
    first_row = torch.arange(0, B * W, W, device=prompt.device)[:, None]  # [B, 1]
    sums = torch.full((B, W), -torch.inf, device=prompt.device)
    sums[:, 0] = 0.0  # all beams are equal at first: one of them counts
    copies = torch.arange(B, device=prompt.device).repeat_interleave(W)
    fed, logits = prompt[copies], model(prompt, cache, last_only=True)[copies, -1]  # [B * W, T], [B * W, V]
    if cache is not None:
        cache.reorder(copies)
    for length in range(1, N + 1):
        logprobs = logits.float().log_softmax(-1)
        for processor in processors:
            logprobs = processor(fed, logprobs)
        V = logprobs.size(-1)
        totals = (sums[:, :, None] + logprobs.view(B, W, V)).flatten(1)  # [B, W * V]
        totals, places = totals.topk(min(W * max(2, 1 + len(eos)), W * V))  # [B, K]: all W beams may end, W must go on
        parents, following = first_row + places // V, places % V
        texts = torch.cat((fed[parents], following[:, :, None]), dim=2)  # [B, K, T + 1]
        ended = torch.isin(following, ends) | (length == N)

        finished = totals[:, :W].where(ended[:, :W], -torch.inf)  # of the W best; the others only stand by to go on
        pool.add(texts[:, :W, -length:], finished / length**length_penalty)
        sums, kept = totals.where(~ended, -torch.inf).topk(W)  # [B, W]
        reach = N if early_stopping == "never" and length_penalty > 0 else length
        pool.close(sums[:, 0] / reach**length_penalty, at_once=early_stopping is True)
        if length == N or not pool.open.any():
            break
        kept = kept.where(sums > -torch.inf, 0)  # a beam that cannot go on must hold some text that processors know
        fed = texts.gather(1, kept[:, :, None].expand(-1, -1, texts.size(2))).flatten(0, 1)
        if cache is not None:
            cache.reorder(parents.gather(1, kept).flatten())
        logits = model(fed if cache is None else fed[:, -1:], cache, last_only=True)[:, -1]
    return pool.beams()


class _Pool:
    """The W best finished hypotheses of each prompt.

    Attributes:
        open: [B], prompts that still take hypotheses.
    """

    def __init__(self, tokens: Tensor) -> None:  # [B, W, N]
        self.tokens = tokens
        self.lengths = tokens.new_zeros(tokens.shape[:2])
        self.scores = torch.full(tokens.shape[:2], -torch.inf, device=tokens.device)
        self.open = torch.ones(len(tokens), dtype=torch.bool, device=tokens.device)

    def add(self, texts: Tensor, scores: Tensor) -> None:  # [B, W, length], [B, W]
        """Keep the W best of those that are here and the new ones; a score of minus infinity is none."""
        length, N = texts.size(2), self.tokens.size(2)
        filled = torch.cat((texts, texts[:, :, -1:].expand(-1, -1, N - length)), dim=2)
        scores = torch.cat((self.scores, scores.where(self.open[:, None], -torch.inf)), dim=1)
        lengths = torch.cat((self.lengths, torch.full_like(self.lengths, length)), dim=1)
        self.scores, best = scores.topk(self.scores.size(1))
        self.lengths = lengths.gather(1, best)
        self.tokens = torch.cat((self.tokens, filled), dim=1).gather(1, best[:, :, None].expand(-1, -1, N))

    def close(self, best_possible: Tensor, *, at_once: bool) -> None:  # [B]
        """Take nothing more for a prompt that cannot improve; `at_once` for one that has W hypotheses."""
        worst = self.scores.amin(1)
        self.open &= best_possible > worst
        if at_once:
            self.open &= worst == -torch.inf

    def beams(self) -> Beams:
        return Beams(self.tokens[:, :, : int(self.lengths.max())], self.scores, self.lengths)


def _check(model: CausalLM, prompt: Tensor, max_new_tokens: int, beams: int, cache: Cache | None) -> None:
    if beams < 1 or max_new_tokens < 1:
        raise ModelError(
            f"beam search: {beams} beams of {max_new_tokens} new tokens find nothing; use at least 1 of both"
        )
    if cache is not None and cache.length:
        raise ModelError(f"beam search: the cache already holds {cache.length} tokens; reset it first")
    end, positions = prompt.size(1) + max_new_tokens, model.config.max_position
    if end > positions:
        raise ModelError(f"beam search: {end} tokens exceed the model's {positions} positions; generate fewer")
