"""Sums in text, with an exact checker: a task to reward for any language model that writes digits.

A checker reads text, not tokens. `42` may be one token or two, with or without the space before it, and a completion
goes on after the answer unless the model ends it. So the reward looks at the first number written, all of its digits,
and at nothing after it: a policy is not paid for guessing where it would be cut off.

Prompts are of one length in tokens, as a batch without padding has to be. The tokenizer decides which sums those are.

Shapes: B completions, P tokens of each prompt.
"""

from __future__ import annotations

import re
from collections import defaultdict
from random import Random

import torch
from torch import Tensor

from llmquiz.llm.align.rollout import Rollout
from llmquiz.llm.base.tokenizer import Tokenizer
from llmquiz.llm.errors import ModelError

_DRAWN = 512  # sums, of which those are kept that have the commonest length


class Sums:
    """Prompts such as `23 + 18 =`, and whether a completion is right.

    Args:
        largest: the numbers are from 1 to this.
        device: where the model is.

    Attributes:
        prompts: [sums, P], all that there are.
        longest: tokens that a completion needs, and one that may end it.
        end: the token that ends a text, or None if the model has none.
    """

    def __init__(self, tokenizer: Tokenizer, largest: int, *, seed: int, device: str = "cpu") -> None:
        self._tokenizer = tokenizer
        begin, self.end = (_token(tokenizer, role) for role in ("<|bos|>", "<|eos|>"))
        rng = Random(f"sums {seed}")
        by_length: defaultdict[int, dict[tuple[int, ...], int]] = defaultdict(dict)
        for _ in range(_DRAWN):
            a, b = rng.randint(1, largest), rng.randint(1, largest)
            ids = ([] if begin is None else [begin]) + tokenizer.encode(f"{a} + {b} =")
            by_length[len(ids)][tuple(ids)] = a + b
        self._answers = max(by_length.values(), key=len)
        self.prompts = torch.tensor(list(self._answers), device=device)
        self.longest = 1 + max(len(tokenizer.encode(f" {answer}")) for answer in self._answers.values())

    def draw(self, count: int, generator: torch.Generator) -> Tensor:  # -> [count, P]
        """Prompts at random, with repetition; `generator` on the CPU."""
        return self.prompts[torch.randint(len(self.prompts), (count,), generator=generator)]

    def judge(self, rollout: Rollout) -> Tensor:  # -> [B]
        """1 where the first number of a completion is the sum, else 0."""
        prompts = rollout.tokens[:, : rollout.prompt_length].tolist()
        rows = zip(prompts, rollout.completions.tolist(), rollout.mask.sum(dim=1).tolist(), strict=True)
        right = [self._right(tuple(prompt), completion[:length]) for prompt, completion, length in rows]
        return torch.tensor(right, dtype=torch.float32, device=rollout.tokens.device)

    def _right(self, prompt: tuple[int, ...], completion: list[int]) -> bool:
        return first_number(self._tokenizer.decode(completion)) == self._answers[prompt]


def first_number(text: str) -> int | None:
    """The first number that a text has, of the digits 0 to 9."""
    found = re.search("[0-9]+", text)
    return int(found[0]) if found else None


def _token(tokenizer: Tokenizer, role: str) -> int | None:
    """Many models begin or end a text with nothing."""
    try:
        return tokenizer.token_id(role)
    except ModelError:
        return None
