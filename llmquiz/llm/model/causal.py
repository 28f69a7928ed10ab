"""What decoding asks of a language model: token ids in, logits out, and a cache that it fills on the way.

Loops, searches and caches are written against this call and not against a class, so each of them runs on `Decoder`, on
`GPT2` and on a draft model of another shape.

Shapes: B batch, T tokens fed, S tokens with those in the cache, V vocabulary.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from llmquiz.llm.cache.base import Cache
from llmquiz.llm.model.config import ModelConfig


class CausalLM(Protocol):
    """A decoder-only model. `config` is its shape: what a cache needs to know, and how many positions there are."""

    @property
    def config(self) -> ModelConfig: ...

    def __call__(
        self,
        tokens: Tensor,
        cache: Cache | None = None,
        *,
        last_only: bool = False,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Logits [B, T, V] of the token that follows each of `tokens` [B, T]; [B, 1, V] with `last_only`.

        Args:
            cache: what came before; the new keys and values are added to it.
            mask: True where a token may be attended: [B, S] or [B, T, S]; causality is added.
            positions: [B, T], where rows do not start at the cache's length.

        Raises:
            ModelError: if the tokens exceed the model's positions or the cache's capacity.
        """
        ...
