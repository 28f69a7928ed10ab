"""A decoder-only language model of the Llama family (Touvron et al. 2023, section 2.2): pre-norm blocks, RoPE, SwiGLU,
and a head that turns hidden states into logits over the vocabulary.

Parameters carry the names of the released checkpoints, less the leading `model.`, so loading weights needs no table.

Shapes: B batch, T tokens fed, V vocabulary. With a cache only new tokens are fed: T, then 1, 1, 1, ...
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from llmquiz.llm.cache.base import Cache
from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.attention import Attention
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.feed_forward import FeedForward
from llmquiz.llm.model.norms import RMSNorm
from llmquiz.llm.model.positions import RotaryEmbedding


def check_positions(config: ModelConfig, past: int, new: int) -> None:
    """Refuse more tokens than the model has positions.

    Raises:
        ModelError: if they do not fit.
    """
    if past + new > config.max_position:
        raise ModelError(
            f"decoder: {past} + {new} tokens exceed the model's {config.max_position} positions; shorten the text"
        )


class DecoderLayer(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.mlp = FeedForward(config)

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], cache: Cache | None, mask: Tensor | None = None
    ) -> Tensor:  # [B, T, hidden] -> same
        x = x + self.self_attn(self.input_layernorm(x), rotation, cache, mask)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Decoder(nn.Module):
    """Token ids in, logits out. Weights are unset until `init_weights` or `model.load` fills them.

    Attributes:
        checkpointing: keep only each layer's input for the backward pass and compute the rest again: about a third more
            work for a fraction of the activations.
    """

    checkpointing = False

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        table = torch.empty(config.vocab_size, config.hidden_size)  # drawing one on meta would import torch's compiler
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, _weight=table)
        self.layers = nn.ModuleList(DecoderLayer(config, layer) for layer in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.rotary = RotaryEmbedding(config)
        self.tie_weights()

    def tie_weights(self) -> None:
        """Let the head read the embedding, if the config ties them."""
        if self.config.tie_embeddings:
            self.lm_head.weight = self.embed_tokens.weight

    def weight_bytes_read(self) -> int:
        """Bytes of weights that decoding one token reads: all but the embedding, of which it reads a row, unless that
        is the head as well. Over the memory's bandwidth they bound the speed of decoding one sequence."""
        total = sum(weight.nbytes for weight in self.parameters())
        return total if self.config.tie_embeddings else total - self.embed_tokens.weight.nbytes

    def forward(
        self,
        tokens: Tensor,
        cache: Cache | None = None,
        *,
        last_only: bool = False,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Logits [B, T, V] of the token that follows each of `tokens` [B, T]; [B, 1, V] with `last_only`.

        Decoding needs the last position alone, and at a large vocabulary the head is a good part of the work: T = 8192
        and V = 128k would be 4 GiB of fp32 logits.

        Args:
            mask: True where a token may be attended: [B, S] or [B, T, S], S tokens with the cache's; causality is
                added.
            positions: [B, T], where rows do not start at the cache's length.

        Raises:
            ModelError: if the tokens, with those in the cache, exceed the model's positions or the cache's capacity.
        """
        x = self.hidden_states(self.embed_tokens(tokens), cache, mask=mask, positions=positions)
        logits: Tensor = self.lm_head(x[:, -1:] if last_only else x)
        return logits

    def hidden_states(
        self,
        embeddings: Tensor,
        cache: Cache | None = None,
        *,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:  # [B, T, hidden] -> same
        """What the head reads, after the last norm: for a value or reward head, or from embeddings that no token has
        (soft prompts).

        Raises:
            ModelError: as `forward`.
        """
        past = 0 if cache is None else cache.length
        check_positions(self.config, past, embeddings.size(1))
        x, rotation = embeddings, self.rotary(past, embeddings, positions)
        for layer in self.layers:
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(layer, x, rotation, cache, mask, use_reentrant=False)
            else:
                x = layer(x, rotation, cache, mask)
        normed: Tensor = self.norm(x)
        return normed


def init_weights(model: Decoder, seed: int) -> Decoder:
    """Seeded normal weights: standard deviation hidden^-1/2, and (2L)^-1/2 of that where a block adds to the residual
    stream, so that its variance stays of order one at any depth (GPT-2, section 2.3). Returns the model."""
    config = model.config
    generator = torch.Generator().manual_seed(seed)
    std = config.hidden_size**-0.5
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
                continue
            residual = name.endswith(("o_proj.weight", "down_proj.weight"))
            parameter.normal_(0.0, std * (2 * config.num_layers) ** -0.5 if residual else std, generator=generator)
    return model


def random_decoder(config: ModelConfig, seed: int) -> Decoder:
    """A decoder with seeded random weights, in fp32 on the CPU, so that a seed gives the same model on every device."""
    with torch.device("meta"):  # skips nn.Linear's own initialisation
        model = Decoder(config)
    # `to_empty` would do, and import sympy for it, which takes a second
    model.load_state_dict({name: torch.empty(each.shape) for name, each in model.state_dict().items()}, assign=True)
    model.tie_weights()
    return init_weights(model, seed).eval()
