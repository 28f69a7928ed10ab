"""The whole Transformer: an encoder reads a source, a decoder writes a target (Vaswani et al. 2017, figure 1).

The decoder has what an encoder has not: a causal mask, so that a position never sees the target tokens that it must
predict; cross-attention, whose queries are the target's and whose keys and values are the encoded source's; and a head
over the vocabulary. Without the mask the training loss looks wonderful, since the answer is in the input, and
generation, where it is not, fails.

While generating, the source's keys and values are computed once; only self-attention needs a cache that grows.

Shapes: B batch, S source tokens, T target tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

from llmquiz.llm.cache.base import Cache
from llmquiz.llm.cache.growing import GrowingCache
from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.block import (
    Block,
    Design,
    Residual,
    absolute_positions,
    final_norm,
    init_weights,
    make_attention,
)
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.feed_forward import feed_forward

Memory: TypeAlias = list[tuple[Tensor, Tensor]]  # the source's keys and values, a pair a layer


class CrossBlock(nn.Module):
    """Self-attention to the target so far, cross-attention to the source, feed-forward layer.

    Args:
        layer: index of this layer; the cache keeps K and V apart by it.
        causal: False lets a target token see those after it, which is wrong; it is there to show what then happens.
    """

    def __init__(self, config: ModelConfig, design: Design, layer: int, *, causal: bool) -> None:
        super().__init__()
        self.layer, self.causal = layer, causal
        self.self_attn, self.cross_attn = make_attention(config), make_attention(config)
        self.mlp = feed_forward(config, design.activation)
        self.around_self, self.around_cross, self.around_mlp = (Residual(config, design) for _ in range(3))

    def forward(
        self, x: Tensor, memory: tuple[Tensor, Tensor], source_mask: Tensor | None, cache: Cache | None
    ) -> Tensor:  # [B, T, hidden] -> same
        x = self.around_self(x, lambda normed: self._read_target(normed, cache))
        x = self.around_cross(x, lambda normed: self.cross_attn.read(normed, *memory, mask=source_mask))
        out: Tensor = self.around_mlp(x, self.mlp)
        return out

    def _read_target(self, x: Tensor, cache: Cache | None) -> Tensor:
        keys, values = self.self_attn.keys_values(x)
        if cache is not None:
            keys, values = cache.update(self.layer, keys, values)
        return self.self_attn.read(x, keys, values, causal=self.causal)


class EncoderDecoder(nn.Module):
    """Source and target ids in, logits of the next target token out. Both sides share the embedding.

    Args:
        config: the shape of either stack.
        design: the choices; positions absolute or none, since a distance between source and target means little.
        seed: of the weights.
        causal: whether the decoder hides the future, as it must.

    Raises:
        ModelError: for positions that belong into attention scores.
    """

    def __init__(
        self, config: ModelConfig, design: Design | None = None, *, seed: int = 0, causal: bool = True
    ) -> None:
        super().__init__()
        design = design or Design(norm="layer", activation="relu", positions="sinusoidal")
        if design.positions in ("rope", "alibi"):
            raise ModelError(f"encoder-decoder: positions '{design.positions}' are relative; use sinusoidal or learned")
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.positions = absolute_positions(config, design)
        self.encoder = nn.ModuleList(Block(config, design, causal=False) for _ in range(config.num_layers))
        self.encoder_norm = final_norm(config, design)
        blocks = nn.ModuleList(CrossBlock(config, design, layer, causal=causal) for layer in range(config.num_layers))
        self.decoder = cast(Sequence[CrossBlock], blocks)
        self.decoder_norm = final_norm(config, design)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        init_weights(self, seed)

    def forward(self, source: Tensor, target: Tensor, *, source_mask: Tensor | None = None) -> Tensor:
        """Logits [B, T, V] of the token that follows each of `target` [B, T], given all of `source` [B, S].

        Training feeds the true target, shifted right by a start token (teacher forcing), and so learns all T positions
        in one pass.

        Args:
            source_mask: [B, S], False for padding.
        """
        return self.decode(target, self.memory(self.encode(source, source_mask)), source_mask)

    def encode(self, source: Tensor, source_mask: Tensor | None = None) -> Tensor:  # [B, S] -> [B, S, hidden]
        x = self._embed(source)
        for block in self.encoder:
            x = block(x, mask=source_mask)
        encoded: Tensor = self.encoder_norm(x)
        return encoded

    def memory(self, encoded: Tensor) -> Memory:  # [B, S, hidden] -> a pair [B, H_kv, S, D] a layer
        """The source as each decoder layer reads it. It stays as it is while the target grows."""
        return [block.cross_attn.keys_values(encoded) for block in self.decoder]

    def decode(
        self, target: Tensor, memory: Memory, source_mask: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:  # [B, T] -> [B, T, V]
        """Logits after each target token; with a cache, `target` holds the new tokens alone."""
        x = self._embed(target, offset=0 if cache is None else cache.length)
        for block, pair in zip(self.decoder, memory, strict=True):
            x = block(x, pair, source_mask, cache)
        logits: Tensor = self.lm_head(self.decoder_norm(x))
        return logits

    def cross_attention(self, source: Tensor, target: Tensor, source_mask: Tensor | None = None) -> list[Tensor]:
        """How much each target token reads of each source token: [B, H, T, S] a layer, to look at."""
        encoded = self.encode(source, source_mask)
        asking: list[Tensor] = []  # what each layer makes its queries of
        queries = [block.cross_attn.q_proj for block in self.decoder]
        hooks = [query.register_forward_pre_hook(lambda _, inputs: asking.append(inputs[0])) for query in queries]
        self.decode(target, self.memory(encoded), source_mask)
        for hook in hooks:
            hook.remove()
        return [
            block.cross_attn.weights(x, encoded, mask=source_mask)
            for block, x in zip(self.decoder, asking, strict=True)
        ]

    @torch.no_grad()
    def generate(
        self, source: Tensor, *, start: int, tokens: int, source_mask: Tensor | None = None
    ) -> Tensor:  # [B, S] -> [B, tokens]
        """The most likely next token, again and again, from the token `start`; each step feeds one token."""
        memory, cache = self.memory(self.encode(source, source_mask)), GrowingCache(self.config)
        written = [source.new_full((source.size(0), 1), start)]
        for _ in range(tokens):
            logits = self.decode(written[-1], memory, source_mask, cache)
            written.append(logits.argmax(-1))  # [B, 1]
        return torch.cat(written[1:], dim=1)

    def _embed(self, tokens: Tensor, offset: int = 0) -> Tensor:  # [B, T] -> [B, T, hidden]
        x = math.sqrt(self.config.hidden_size) * self.embed_tokens(tokens)
        placed: Tensor = x if isinstance(self.positions, nn.Identity) else self.positions(x, offset)
        return placed
