"""Bottleneck adapters: two small layers in series with every sublayer (Houlsby et al. 2019, section 2.1).

    h + up(relu(down(h))),    h: what attention, or the feed-forward layer, is about to add to the residual stream

They stand *in series*, with a nonlinearity between, so unlike LoRA they can never be merged: each token pays for two
more small layers per sublayer, for ever, and at batch size 1 their latency is what is felt. `up` starts at zero, so the
adapted model starts as the base model.

The paper also trains each task's own layer norms; here the norms stay frozen.

Shapes: hidden features, M width of the bottleneck. An adapter has 2 M hidden + M + hidden parameters.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from llmquiz.llm.errors import AdapterError
from llmquiz.llm.model.decoder import Decoder


class Bottleneck(nn.Module):
    """A frozen sublayer, and a trainable adapter behind it."""

    def __init__(self, sublayer: nn.Module, like: Tensor, width: int) -> None:
        super().__init__()
        hidden = like.size(-1)
        self.sublayer = sublayer
        self.down = nn.Linear(hidden, width, device=like.device, dtype=like.dtype)
        self.up = nn.Linear(width, hidden, device=like.device, dtype=like.dtype)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, *inputs: Any) -> Tensor:  # [B, T, hidden], ... -> [B, T, hidden]
        h: Tensor = self.sublayer(*inputs)
        adapted: Tensor = h + self.up(F.relu(self.down(h)))
        return adapted


def add_bottlenecks(model: Decoder, width: int) -> int:
    """Freeze `model` and put an adapter behind attention and feed-forward layer of every block; returns the trainable
    parameters.

    Raises:
        AdapterError: if the width is not positive, or the model has adapters already.
    """
    if width < 1:
        raise AdapterError(f"bottleneck: a width of {width} leaves nothing to train; use at least 1")
    if any(isinstance(module, Bottleneck) for module in model.modules()):
        raise AdapterError("bottleneck: the model has adapters already; start from a fresh base")
    model.requires_grad_(False)
    like = model.embed_tokens.weight
    for layer in model.layers:
        for name in ("self_attn", "mlp"):
            setattr(layer, name, Bottleneck(getattr(layer, name), like, width))
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
