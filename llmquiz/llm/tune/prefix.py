"""Prefix tuning: learned keys and values that every token can attend to, in every layer (Li and Liang 2021, section 4).

It is a KV cache that no text has filled. To the model the prefix is a past of P tokens: the text starts at position P,
and causality lets all of it see the whole prefix. The weights are not touched, so one batch can serve many tasks; but
the prefix takes P tokens of cache, in each layer, for as long as it is used.

The keys are stored as attention reads them, after RoPE. Started from the keys and values of a real text, the tuned
model *is* the model that reads this text first; random ones start as noise that attention must learn to use.

Shapes: L layers, H_kv K/V heads, D head_dim, P tokens of prefix, B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmquiz.llm.cache.growing import GrowingCache
from llmquiz.llm.errors import AdapterError
from llmquiz.llm.model.decoder import Decoder


class PrefixTuning(nn.Module):
    """A frozen decoder with a trainable past: 2 L H_kv P D parameters.

    Args:
        model: the base; it is frozen.
        text: [P] tokens whose keys and values the prefix starts from.

    Raises:
        AdapterError: if the text is empty.
    """

    def __init__(self, model: Decoder, text: Tensor) -> None:
        super().__init__()
        if not text.numel():
            raise AdapterError("prefix tuning: the text to start from is empty; give it at least one token")
        self.model = model.requires_grad_(False)
        self.length = text.numel()
        keys, values = _read(model, text)
        self.keys, self.values = nn.Parameter(keys), nn.Parameter(values)  # [L, H_kv, P, D] twice

    def forward(self, tokens: Tensor) -> Tensor:  # [B, T] -> [B, T, V]
        """Logits of the token that follows each of `tokens`.

        Raises:
            AdapterError: if layers are recomputed in the backward pass: each would add the text to its cache again.
        """
        if self.model.checkpointing and torch.is_grad_enabled():
            raise AdapterError(
                "prefix tuning does not go with activation checkpointing; set model.checkpointing = False"
            )
        logits: Tensor = self.model(tokens, self.cache(tokens.size(0)))
        return logits

    def cache(self, batch: int) -> GrowingCache:
        """A cache that holds the prefix for each of `batch` sequences; to generate with, as with any other."""
        cache = GrowingCache(self.model.config)
        for layer, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            cache.update(layer, keys.expand(batch, -1, -1, -1), values.expand(batch, -1, -1, -1))
        return cache


@torch.no_grad()
def _read(model: Decoder, text: Tensor) -> tuple[Tensor, Tensor]:  # [P] -> [L, H_kv, P, D] twice
    """The keys and values of `text`, layer by layer: a cache gives back all that it holds when it is given nothing."""
    config, cache = model.config, GrowingCache(model.config)
    model(text[None], cache)
    nothing = model.embed_tokens.weight.new_empty(1, config.num_kv_heads, 0, config.head_dim)
    pairs = [cache.update(layer, nothing, nothing) for layer in range(config.num_layers)]
    return torch.cat([k for k, _ in pairs]), torch.cat([v for _, v in pairs])
