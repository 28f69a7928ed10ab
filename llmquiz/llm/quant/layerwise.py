"""One pass of calibration tokens through a model, that stops at each linear layer to change it.

What people get wrong is which inputs to calibrate on. Layer 7 of the compressed model does not see what layer 7 of the
original sees: the layers before it have changed its inputs. Collected in one pass over the original, all inputs are
those of a model that will not exist; collected layer by layer, each layer answers for the errors before it.

It takes no more than one pass. A forward hook is called with a layer's input before the layer computes: there the
weight is changed, and the layer goes on with the new one, so whatever runs after it sees the compressed layer.

Shapes: B batch, T tokens; N = B * T rows of a layer's input; D_in its features.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn

from llmquiz.llm.errors import ModelError
from llmquiz.llm.tune.targets import ALL_LINEAR, Targets, find_targets

Visit: TypeAlias = Callable[[str, nn.Linear, Tensor], None]  # path, layer, its input [N, D_in]


@torch.no_grad()
def visit_layers(model: nn.Module, tokens: Tensor, visit: Visit, targets: Targets = ALL_LINEAR) -> None:
    """Run `model(tokens)` on tokens [B, T] and call `visit` at each target, in the order in which they run; a visit may
    change the layer's weight in place. All tokens are one batch: their activations must fit into memory.

    Raises:
        AdapterError: if a target names no linear layer.
        ModelError: if a target did not run, e.g. an expert that no token was sent to.
    """
    layers = find_targets(model, targets, (nn.Linear,))
    unseen = set(layers)

    def stop_at(path: str, layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.Linear)
        if path in unseen:
            unseen.remove(path)
            visit(path, layer, args[0].flatten(0, -2))

    handles = [layer.register_forward_pre_hook(partial(stop_at, path)) for path, layer in layers.items()]
    try:
        model(tokens)
    finally:
        for handle in handles:
            handle.remove()
    if unseen:
        raise ModelError(f"calibration: {min(unseen)} saw no token; give more text, or leave it out of targets")


def plain_linear(weight: nn.Parameter, bias: nn.Parameter | None) -> nn.Linear:
    """A linear layer of these parameters, to put back where a layer of another kind stood."""
    linear = nn.Linear(weight.size(1), weight.size(0), bias=bias is not None, device="meta")
    linear.weight = weight
    if bias is not None:
        linear.bias = bias
    return linear
