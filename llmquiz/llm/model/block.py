"""The Transformer block with its choices open, and a small language model of such blocks to compare them.

A block adds two sublayers to the residual stream; the choices are where the norm stands, which norm, which activation
and how order comes in. Where the norm stands decides whether a deep stack trains from the first step:

    pre   x + f(norm(x))            the stream is never normalised; it grows, and later layers weigh less
    post  norm(x + f(x))            every norm divides the gradient's short cut too: deep stacks need warm-up
    deep  norm(alpha x + f(x))      post-norm with a wider short cut and smaller initial weights (DeepNorm)

Xiong et al. 2020, section 3, for the gradients; Wang et al. 2022 (DeepNet), section 4, for alpha and beta.

Shapes: B batch, T tokens, V vocabulary, N layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.feed_forward import Activation, feed_forward
from llmquiz.llm.model.multi_head import MultiHeadAttention, Rotation
from llmquiz.llm.model.norms import LayerNorm, RMSNorm
from llmquiz.llm.model.positions import LearnedPositions, RotaryEmbedding, SinusoidalPositions, alibi_bias, alibi_slopes

Placement: TypeAlias = Literal["pre", "post", "deep"]
Norm: TypeAlias = Literal["rms", "layer"]
Positions: TypeAlias = Literal["rope", "alibi", "sinusoidal", "learned", "none"]


@dataclass(frozen=True, slots=True)
class Design:
    """What two models of one shape may differ in. The default is Llama's."""

    placement: Placement = "pre"
    norm: Norm = "rms"
    activation: Activation = "swiglu"
    positions: Positions = "rope"


def deepnorm_alpha(num_layers: int) -> float:
    """(2N)^(1/4): the weight of the short cut in a decoder-only model of N layers."""
    return float((2 * num_layers) ** 0.25)


def deepnorm_beta(num_layers: int) -> float:
    """(8N)^(-1/4): the gain of the initial weights of values, attention output and feed-forward layer."""
    return float((8 * num_layers) ** -0.25)


def make_norm(config: ModelConfig, norm: Norm) -> RMSNorm | LayerNorm:
    return (RMSNorm if norm == "rms" else LayerNorm)(config.hidden_size, config.norm_eps)


def make_attention(config: ModelConfig) -> MultiHeadAttention:
    return MultiHeadAttention(
        config.hidden_size,
        config.num_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        bias=config.qkv_bias,
    )


class Residual(nn.Module):
    """A short cut around a sublayer, with the norm where `design.placement` says."""

    def __init__(self, config: ModelConfig, design: Design) -> None:
        super().__init__()
        self.norm = make_norm(config, design.norm)
        self.pre = design.placement == "pre"
        self.alpha = deepnorm_alpha(config.num_layers) if design.placement == "deep" else 1.0

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:  # [B, T, hidden] -> same
        if self.pre:
            return x + sublayer(self.norm(x))
        normed: Tensor = self.norm(self.alpha * x + sublayer(x))
        return normed


class Block(nn.Module):
    """Self-attention and feed-forward layer, each with its residual: causal in a language model, not in an encoder."""

    def __init__(self, config: ModelConfig, design: Design, *, causal: bool = True) -> None:
        super().__init__()
        self.causal = causal
        self.self_attn = make_attention(config)
        self.mlp = feed_forward(config, design.activation)
        self.around_attention, self.around_mlp = Residual(config, design), Residual(config, design)

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        rotation: Rotation | None = None,
        score_bias: Tensor | None = None,
    ) -> Tensor:  # [B, T, hidden] -> same
        def attend(normed: Tensor) -> Tensor:
            attended: Tensor = self.self_attn(
                normed, causal=self.causal, mask=mask, rotation=rotation, score_bias=score_bias
            )
            return attended

        out: Tensor = self.around_mlp(self.around_attention(x, attend), self.mlp)
        return out


class TransformerLM(nn.Module):
    """Token ids in, logits out, for any `Design`.

    Weights are seeded as in the original Transformer: Xavier, and embeddings that are scaled up to unit variance.

    Args:
        config: the shape. `intermediate_size` is taken as it is: see `feed_forward.equal_width`.
        design: the choices.
        seed: of the weights.
    """

    def __init__(self, config: ModelConfig, design: Design | None = None, *, seed: int = 0) -> None:
        super().__init__()
        self.config, self.design = config, design or Design()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.positions = absolute_positions(config, self.design)
        self.rotary = RotaryEmbedding(config) if self.design.positions == "rope" else None
        self.layers = nn.ModuleList(Block(config, self.design) for _ in range(config.num_layers))
        self.norm = final_norm(config, self.design)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.embed_tokens.weight
        init_weights(self, seed, gain=deepnorm_beta(config.num_layers) if self.design.placement == "deep" else 1.0)

    def forward(self, tokens: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Logits [B, T, V] of the token that follows each of `tokens` [B, T].

        Args:
            mask: True where a token may be read, besides causality: [B, T] or [B, T, T].

        Raises:
            ModelError: if absolute positions end before the text does.
        """
        x = self.positions(math.sqrt(self.config.hidden_size) * self.embed_tokens(tokens))
        rotation = None if self.rotary is None else self.rotary(0, x)
        score_bias = None
        if self.design.positions == "alibi":
            slopes = alibi_slopes(self.config.num_heads).to(x)
            score_bias = alibi_bias(slopes, tokens.size(1), tokens.size(1))
        for layer in self.layers:
            x = layer(x, mask=mask, rotation=rotation, score_bias=score_bias)
        logits: Tensor = self.lm_head(self.norm(x))
        return logits


def absolute_positions(config: ModelConfig, design: Design) -> nn.Module:
    """What is added to the embeddings; nothing where order comes in elsewhere."""
    if design.positions == "sinusoidal":
        return SinusoidalPositions(config.max_position, config.hidden_size)
    if design.positions == "learned":
        return LearnedPositions(config.max_position, config.hidden_size)
    return nn.Identity()


def final_norm(config: ModelConfig, design: Design) -> nn.Module:
    """Pre-norm leaves the stream unnormalised, so one norm stands before the head; the others end on a norm."""
    return make_norm(config, design.norm) if design.placement == "pre" else nn.Identity()


def init_weights(model: nn.Module, seed: int, *, gain: float = 1.0) -> None:
    """Seeded Xavier weights and zero biases, in place; drawn on the CPU, so a seed gives the same model everywhere.

    Args:
        gain: DeepNorm's beta, for what adds to the stream; queries and keys only choose where to look.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif name.endswith("embed_tokens.weight"):
                parameter.normal_(0.0, parameter.size(1) ** -0.5, generator=generator)
            elif name.endswith("positions.table"):
                parameter.normal_(0.0, 0.5**0.5, generator=generator)
            elif parameter.dim() == 2:
                plain = name.endswith(("q_proj.weight", "k_proj.weight", "lm_head.weight"))
                nn.init.xavier_normal_(parameter, 1.0 if plain else gain, generator=generator)
