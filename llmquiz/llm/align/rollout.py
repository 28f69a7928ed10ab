"""Sampling completions, and remembering how likely each token was when it was drawn.

The log-probabilities are those of the distribution that was sampled: with the temperature in them, and before any
update. Policy-gradient losses compare them with the policy's later ones; recomputed after an update, every ratio is 1
and clipping never acts.

Shapes: B sequences, P tokens of each prompt, N tokens of the longest completion, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from llmquiz.llm.cache.static import StaticCache
from llmquiz.llm.model.decoder import Decoder


@dataclass(frozen=True, slots=True)
class Rollout:
    """Prompts with what a policy made of them.

    Attributes:
        tokens: [B, P + N]; after its end a completion repeats the end token.
        mask: [B, N], True up to and with the end token: stopping is an action too, and must be learned.
        logprobs: [B, N], nats, zero where the mask is False.
    """

    tokens: Tensor
    mask: Tensor
    logprobs: Tensor

    @property
    def prompt_length(self) -> int:
        """P."""
        return self.tokens.size(1) - self.mask.size(1)

    @property
    def completions(self) -> Tensor:  # [B, N]
        return self.tokens[:, self.prompt_length :]

    def rows(self, chosen: Tensor) -> Rollout:
        """The sequences that `chosen` [B'] names by index, or marks True in [B]."""
        return Rollout(self.tokens[chosen], self.mask[chosen], self.logprobs[chosen])


@torch.no_grad()
def sample(
    model: Decoder,
    prompts: Tensor,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    eos: int | None = None,
    generator: torch.Generator | None = None,
) -> Rollout:
    """Draw one completion of each of `prompts` [B, P], all of one length, from the whole vocabulary.

    For a group of G completions of each prompt, give `prompts.repeat_interleave(G, dim=0)`. There is no top-k or top-p:
    a token that they rule out has probability zero under the sampler but not under the policy that is trained.

    Args:
        temperature: greater than zero.
        eos: the token that ends a completion; None for completions of `max_new_tokens` each.
        generator: on the model's device.

    Raises:
        ModelError: if prompt and completion exceed the model's positions.
    """
    B, P = prompts.shape
    tokens = torch.cat((prompts, prompts.new_zeros(B, max_new_tokens)), dim=1)
    mask = torch.zeros(B, max_new_tokens, dtype=torch.bool, device=prompts.device)
    logprobs = torch.zeros(B, max_new_tokens, device=prompts.device)
    weight = model.embed_tokens.weight
    cache = StaticCache(model.config, P + max_new_tokens, batch=B, dtype=weight.dtype, device=weight.device)
    running = torch.ones(B, dtype=torch.bool, device=prompts.device)
    new = prompts
    for n in range(max_new_tokens):
        log_p = (model(new, cache, last_only=True)[:, -1].float() / temperature).log_softmax(-1)  # [B, V]
        new = torch.multinomial(log_p.exp(), 1, generator=generator)  # [B, 1]
        if eos is not None:
            new = torch.where(running[:, None], new, eos)
        mask[:, n] = running
        logprobs[:, n] = log_p.gather(-1, new).squeeze(-1) * running
        tokens[:, P + n] = new.squeeze(-1)
        if eos is not None:
            running = running & (new.squeeze(-1) != eos)
            if not running.any():
                return Rollout(tokens[:, : P + n + 1], mask[:, : n + 1], logprobs[:, : n + 1])
    return Rollout(tokens, mask, logprobs)
