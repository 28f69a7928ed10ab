"""Several answers to one prompt, and which of them to show.

The prompt is computed once, whatever n: its keys and values do not depend on what is drawn after it. Answer i has a
generator of its own, seeded with `seed` + i, so it is the same whether three are drawn or thirty.

Ranked by the sum of log-probabilities, short answers win: every further token can only lower it. So the mean over the
tokens ranks. It measures what the model finds likely, which is not what is right: where an answer can be checked, check
it, and `pass_at_k` says how often k draws hold a right one.

Shapes: n answers, P tokens of the prompt, N of the longest answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb

from torch import Tensor

from llmquiz.llm.cache.base import Cache
from llmquiz.llm.decode.generate import generate
from llmquiz.llm.decode.sampling import Sampler, SamplingParams
from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.causal import CausalLM


@dataclass(frozen=True, slots=True)
class Candidates:
    """Answers to one prompt, in the order in which they were drawn.

    Attributes:
        tokens: [n, N]; after its end an answer repeats its last token.
        lengths: [n], tokens up to and with the end.
        logprob_sums: [n], nats under the model itself: what a sampler did to the logits is not in it.
    """

    tokens: Tensor
    lengths: Tensor
    logprob_sums: Tensor

    @property
    def scores(self) -> Tensor:  # [n]
        """Mean log-probability of a token, nats."""
        return self.logprob_sums / self.lengths

    def ranked(self) -> list[list[int]]:
        """The answers without what follows their end, the likeliest by mean log-probability first."""
        order = self.scores.argsort(descending=True, stable=True).tolist()
        return [self.tokens[row, : int(self.lengths[row])].tolist() for row in order]


def best_of_n(
    model: CausalLM,
    prompt: Tensor,
    max_new_tokens: int,
    n: int,
    *,
    cache: Cache,
    params: SamplingParams | None = None,
    seed: int = 0,
    eos: Sequence[int] = (),
    stop: Callable[[Tensor], Tensor] | None = None,
) -> Candidates:
    """Draw `n` answers to `prompt` [1, P].

    Args:
        cache: an empty one for a batch of one, whose rows can be copied; it holds n rows afterwards.
        params: how to draw; None for the model's own distribution.
        seed: of the first answer's generator. Prompts whose seeds are less than n apart share generators, and so luck.
        eos: tokens that end an answer.
        stop: see `generate`.

    Raises:
        ModelError: if n is less than 1, there is more than one prompt, nothing is drawn (temperature 0), or the tokens
            exceed the model's positions or the cache.
    """
    params = params or SamplingParams()
    if n < 1 or prompt.size(0) != 1:
        raise ModelError(
            f"best of n: {n} answers to {prompt.size(0)} prompts; ask for at least one answer to one prompt"
        )
    if params.greedy and n > 1:
        raise ModelError(f"best of n: temperature 0 gives {n} equal answers; raise it, or ask for one")
    made = generate(
        model,
        prompt,
        max_new_tokens,
        cache=cache,
        eos=eos,
        stop=stop,
        processors=params.processors(prompt_length=prompt.size(1)),
        sample=None if params.greedy else Sampler.seeded(seed, n, prompt.device),
        fork=n,
        logprobs=True,
    )
    assert made.logprobs is not None
    return Candidates(made.tokens, made.lengths, made.logprobs.sum(dim=1))


def pass_at_k(n: int, right: int, k: int) -> float:
    """The chance that k of n answers, `right` of them right, hold a right one: 1 - C(n - right, k) / C(n, k) (Chen et
    al. 2021, section 2.1).

    Unbiased if the n were drawn independently. 1 - (1 - right / n)^k from the same n answers is biased downwards: it
    puts a drawn answer back.

    Raises:
        ModelError: unless 0 <= right <= n and 1 <= k <= n.
    """
    if not (0 <= right <= n and 1 <= k <= n):
        raise ModelError(f"pass@{k}: {right} right answers of {n} make no sense; draw at least k")
    return 1 - comb(n - right, k) / comb(n, k)
