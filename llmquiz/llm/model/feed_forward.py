"""SwiGLU: a feed-forward layer whose one half gates the other (Shazeer 2020, equation 6).

Three matrices instead of two: at an intermediate size of 8/3 hidden_size it has as many parameters as a 4x ReLU layer.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from llmquiz.llm.model.config import ModelConfig


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
