"""Quantization-aware training: round in the forward pass, and pretend in the backward pass that nothing was rounded.

The derivative of rounding is zero almost everywhere, so honest backpropagation would not move a weight at all. The
straight-through estimator (Bengio et al. 2013) takes it as one, where the code was not clamped. The optimizer keeps and
moves weights in full precision; most of its steps change no code, until enough of them have added up to cross half a
step of the grid. What people get wrong is to quantize the stored weight itself: then every small update is rounded away
and nothing is ever learned.

A learned step size (LSQ, Esser et al. 2019) needs no formula of its own here: with rounding passed through, the
derivative of (round(w / s) - zero) * s by s is round(w / s) - w / s, and the code itself where it was clamped: equation
3 of the paper. Only its length is adapted, by 1 / sqrt(G * top), since one step gathers the gradients of G weights.

Shapes: D_out, D_in features of a layer; G weights of a group; K groups of a row.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmquiz.llm.errors import ModelError
from llmquiz.llm.quant.layerwise import plain_linear
from llmquiz.llm.quant.rtn import Grid, Quantized, as_stored
from llmquiz.llm.tune.targets import ALL_LINEAR, Targets, find_targets


def straight_through(x: Tensor, changed: Tensor) -> Tensor:
    """The value of `changed` with the gradient of x."""
    return changed.detach() + (x - x.detach())  # adds an exact zero


def fake_quantize(x: Tensor, scale: Tensor, zero: Tensor, grid: Grid) -> Tensor:
    """x at the nearest points of the grid, with a gradient of one where the code was not clamped and zero where it was;
    differentiable by the scale too. The scale must be one that storage keeps exactly (`rtn.as_stored`)."""
    quotient = x / scale
    codes = (straight_through(quotient, quotient.round()) + zero).clamp(0, grid.top)
    return (codes - zero) * scale


class FakeQuantLinear(nn.Module):
    """A linear layer that is trained in full precision and computes with what rounding will leave of its weight.

    Args:
        linear: the layer; its weight and bias go on being the same parameters.
        learned_step: let the optimizer find the scale of each group (LSQ); otherwise it is fitted to the weights again
            at every step. Make the optimizer after the layer: the step is a new parameter.

    Raises:
        ModelError: if the groups do not divide the row, or a learned step is wanted of an asymmetric grid.
    """

    def __init__(self, linear: nn.Linear, grid: Grid, learned_step: bool = False) -> None:
        super().__init__()
        self.weight, self.bias, self.grid = linear.weight, linear.bias, grid
        groups, highest = grid.groups(self.weight.detach()), grid.top // 2
        self.gradient_scale = (groups.size(-1) * highest) ** -0.5
        self.step: nn.Parameter | None = None
        if learned_step:
            if not grid.symmetric:
                raise ModelError("qat: a learned step needs a symmetric grid; its zero is not learned")
            self.step = nn.Parameter(2 * groups.abs().mean(-1, keepdim=True) / highest**0.5)  # the paper's start

    def forward(self, x: Tensor) -> Tensor:  # [..., D_in] -> [..., D_out]
        groups = self.grid.groups(self.weight)
        rounded = fake_quantize(groups, *self._constants(groups), self.grid)
        return F.linear(x, rounded.flatten(1).to(x.dtype), self.bias)

    def quantized(self) -> Quantized:
        """The codes of the weight as it is now; they stand for exactly what `forward` computes with."""
        with torch.no_grad():
            groups = self.grid.groups(self.weight)
            scale, zero = self._constants(groups)
            codes = self.grid.encode(groups, scale, zero).flatten(1)
            return Quantized.from_codes(codes, scale[..., 0], zero[..., 0], self.grid)

    def _constants(self, groups: Tensor) -> tuple[Tensor, Tensor]:  # [D_out, K, G] -> [D_out, K, 1] twice
        if self.step is None:
            return self.grid.fit(groups.detach())
        slowed = self.step * self.gradient_scale  # what the gradient goes through, not the value
        scale = straight_through(slowed, as_stored(self.step))
        return scale, torch.full_like(scale, self.grid.top // 2 + 1)


def add_fake_quantization(
    model: nn.Module, grid: Grid, targets: Targets = ALL_LINEAR, *, learned_step: bool = False
) -> list[FakeQuantLinear]:
    """Put a FakeQuantLinear in the place of each target, and return them.

    Raises:
        AdapterError: if a target names no linear layer.
        ModelError: as `FakeQuantLinear`.
    """
    layers = []
    for path, linear in find_targets(model, targets, (nn.Linear,)).items():
        assert isinstance(linear, nn.Linear)
        layers.append(FakeQuantLinear(linear, grid, learned_step).train(linear.training))
        model.set_submodule(path, layers[-1])
    return layers


def export_(model: nn.Module) -> dict[str, Quantized]:
    """Put a plain linear layer with the rounded weight back in the place of each FakeQuantLinear: the model computes
    the same numbers. Returns the codes, by path."""
    trained = {path: layer for path, layer in model.named_modules() if isinstance(layer, FakeQuantLinear)}
    quantized = {path: layer.quantized() for path, layer in trained.items()}
    for path, layer in trained.items():
        weight = nn.Parameter(quantized[path].dequantize(layer.weight.dtype))
        model.set_submodule(path, plain_linear(weight, layer.bias).train(layer.training))
    return quantized
