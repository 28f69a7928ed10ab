"""(IA)^3: rescale activations with learned vectors, and nothing else (Liu et al. 2022, section 3.3).

Keys, values and the inner activations of the feed-forward layer are multiplied by a vector each: a feature can be
amplified or silenced, but none is made that the base model lacks. So it is tiny, and weak where the base is weak.

The vector stands at the *output* of k_proj and v_proj, but at the *input* of down_proj: the inner activations are that
layer's input. A bias is scaled along in the first case, and must not be in the second. Vectors start at one, so the
adapted model starts as the base model. A trained vector can be merged into the weight, at no cost in inference.

Shapes: D_in, D_out features of the layer.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from llmquiz.llm.errors import AdapterError


class IA3Linear(nn.Module):
    """A frozen linear layer whose output, or input, is scaled feature by feature.

    Args:
        base: the layer to adapt; kept as it is.
        scales_input: for the layer after the activation (down_proj).
    """

    def __init__(self, base: nn.Linear, *, scales_input: bool) -> None:
        super().__init__()
        self.base, self.scales_input = base, scales_input
        features = base.in_features if scales_input else base.out_features
        self.scale = nn.Parameter(base.weight.new_ones(features))

    def forward(self, x: Tensor) -> Tensor:  # [..., D_in] -> [..., D_out]
        scaled: Tensor = self.base(x * self.scale) if self.scales_input else self.base(x) * self.scale
        return scaled

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The base layer, with the vector worked into its columns (input) or into its rows and bias (output)."""
        if self.scales_input:
            self.base.weight.mul_(self.scale)
        else:
            self.base.weight.mul_(self.scale[:, None])
            if self.base.bias is not None:
                self.base.bias.mul_(self.scale)
        return self.base


def add_ia3(
    model: nn.Module,
    *,
    outputs: Collection[str] = ("k_proj", "v_proj"),
    inputs: Collection[str] = ("down_proj",),
) -> int:
    """Freeze `model` and adapt its linear layers of these names; returns the trainable parameters.

    A second call adds nothing: an adapted layer is not adapted again.

    Raises:
        AdapterError: if no layer has one of the names.
    """
    model.requires_grad_(False)
    for parent in [module for module in model.modules() if not isinstance(module, IA3Linear)]:
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and name in (*outputs, *inputs):
                setattr(parent, name, IA3Linear(child, scales_input=name in inputs))
    adapted = [module for module in model.modules() if isinstance(module, IA3Linear)]
    if not adapted:
        raise AdapterError(f"ia3: the model has no linear layer named {', '.join((*outputs, *inputs))}")
    for module in adapted:
        module.scale.requires_grad_(True)
    return sum(module.scale.numel() for module in adapted)


def merge_ia3(model: nn.Module) -> None:
    """Put plain linear layers back, with the vectors in their weights."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, IA3Linear):
                setattr(parent, name, child.merged())
