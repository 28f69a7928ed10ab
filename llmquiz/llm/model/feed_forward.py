"""The feed-forward layer: widen, bend, narrow, at each token alone (Vaswani et al. 2017, section 3.3); or SwiGLU, where
one half gates the other (Shazeer 2020, equation 6).

SwiGLU has three matrices instead of two. To compare at equal parameters, 3 * d * f = 2 * d * 4d gives it a width f of
8/3 d: that is where Llama's odd intermediate sizes come from. At 4 d it would win by being half as large again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from torch import Tensor, nn
from torch.nn import functional as F

from llmquiz.llm.model.config import ModelConfig

Activation: TypeAlias = Literal["relu", "gelu", "swiglu"]
_BENDS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu}


def equal_width(hidden_size: int, activation: Activation) -> int:
    """The intermediate size at which each activation has the parameters of a 4x ReLU layer, 8 hidden_size^2; exact for
    SwiGLU where hidden_size is a multiple of three."""
    return round(8 * hidden_size / 3) if activation == "swiglu" else 4 * hidden_size


class FeedForward(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden, intermediate, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj = nn.Linear(hidden, intermediate, bias=bias)
        self.up_proj = nn.Linear(hidden, intermediate, bias=bias)
        self.down_proj = nn.Linear(intermediate, hidden, bias=bias)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, hidden] -> [B, T, hidden]
        gated: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return gated


class PlainFeedForward(nn.Module):
    """down(bend(up(x))), with ReLU or GELU for the bend.

    ReLU leaves a unit's output and its gradient at exactly zero for a negative input; GELU (Hendrycks and Gimpel 2016)
    lets a little of both through. Neither GELU nor SiLU is odd or even: f(x) - f(-x) = x.
    """

    def __init__(self, config: ModelConfig, activation: Activation) -> None:
        super().__init__()
        self.bend = _BENDS[activation]
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, hidden] -> [B, T, hidden]
        narrowed: Tensor = self.down_proj(self.bend(self.up_proj(x)))
        return narrowed


def feed_forward(config: ModelConfig, activation: Activation) -> FeedForward | PlainFeedForward:
    """The layer with this activation, `config.intermediate_size` wide."""
    return FeedForward(config) if activation == "swiglu" else PlainFeedForward(config, activation)
