"""Integers in the place of floats, x ~ scale * (q - zero), and linear layers that multiply integers (Jacob et al. 2018,
section 2).

What people get wrong is who may have a scale of its own. In y_mn = sum_k x_mk w_nk a scale can leave the sum if it does
not depend on k: one for each token m, one for each output n. Such a layer adds int32 products and scales each sum once.
A scale for each *input* feature k cannot leave the sum, and it is the input features that have outliers. So they are
moved into the weights (SmoothQuant, in `calibration`) or multiplied apart in float (LLM.int8, `threshold` below).

Weights are known beforehand; "dynamic" and "static" differ in the activations alone. A dynamic layer measures each
token as it comes: nothing to calibrate, nothing is cut off, a pass over the input at run time. A static layer rounds by
a range that was found beforehand: cheaper, and wrong for whatever calibration did not show it.

Shapes: M tokens (of all texts), K input features, N output features, G numbers of a group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llmquiz.llm.errors import ModelError
from llmquiz.llm.tune.targets import ALL_LINEAR, Targets, find_targets

SMALLEST = 1e-30  # a scale where all numbers are zero
EXACT = 1024  # products of 8-bit integers, at most 2^14 each, that fp32 adds without rounding: 2^24 in all


@dataclass(frozen=True, slots=True)
class Quantized:
    """Integers, and what turns them back into numbers.

    Attributes:
        values: int8, one a byte at any number of bits, in the shape of x; with groups [..., K / G, G].
        scale: fp32, of length one along every axis whose numbers share it.
        zero: the integer that stands for 0.0, in the shape of `scale`; None if symmetric: then it is 0.
        shape: of x.
    """

    values: Tensor
    scale: Tensor
    zero: Tensor | None
    shape: torch.Size


def quantize(
    x: Tensor, bits: int = 8, *, axis: int | None = None, group: int | None = None, symmetric: bool = True
) -> Quantized:
    """Round each number to one of 2^bits levels between the least and the largest that share its scale.

    Args:
        bits: 2 to 8.
        axis: the axis along which each index has a scale of its own: 0 gives a weight [N, K] a scale per output
            channel, and activations [M, K] one per token. None: one scale for the tensor.
        group: G, runs of the last axis with a scale of their own; `axis` is then left out.
        symmetric: levels -top..top, without a zero point. Else the 2^bits levels span the numbers that there are,
            which pays where they are one-sided.

    Raises:
        ModelError: if the bits are not within 2..8 or groups do not divide the last axis.
    """
    if not 2 <= bits <= 8:
        raise ModelError(f"quantize: {bits} bits; use 2 to 8")
    if group is not None and x.size(-1) % group:
        raise ModelError(f"quantize: groups of {group} do not divide {x.size(-1)} numbers; use a divisor")
    shape, x = x.shape, x.detach().float()
    if group is not None:
        x = x.reshape(*shape[:-1], -1, group)  # [..., K] -> [..., K / G, G]
        shared = [x.dim() - 1]
    else:
        shared = [d for d in range(x.dim()) if axis is None or d != axis % x.dim()]
    scale, zero = scale_of(x.amin(shared, keepdim=True), x.amax(shared, keepdim=True), bits, symmetric)
    return Quantized(to_integers(x, scale, zero, bits), scale, zero, shape)


def scale_of(low: Tensor, high: Tensor, bits: int = 8, symmetric: bool = True) -> tuple[Tensor, Tensor | None]:
    """The scale and zero point that spread the levels over low..high, each fp32 in the shape of `low`.

    0.0 is always a level: padding and ReLU make many zeros, and an error in each of them would add up.
    """
    top = 2 ** (bits - 1) - 1
    if symmetric:
        return torch.maximum(-low, high).clamp(min=SMALLEST) / top, None
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = ((high - low) / (2 * top + 1)).clamp(min=SMALLEST)
    return scale, (-top - 1 - low / scale).round()


def to_integers(x: Tensor, scale: Tensor, zero: Tensor | None = None, bits: int = 8) -> Tensor:
    """int8 in the shape of x: rounded to the nearest level, ties to even; what lies beyond the levels is cut off."""
    top = 2 ** (bits - 1) - 1
    rounded = (x * (1 / scale)).round()  # as torch does: multiplied, not divided
    if zero is None:
        return rounded.clamp(-top, top).to(torch.int8)
    return (rounded + zero).clamp(-top - 1, top).to(torch.int8)


def dequantize(quantized: Quantized, dtype: torch.dtype = torch.float32) -> Tensor:
    """scale * (values - zero), in the shape that was quantized."""
    values = quantized.values.float() if quantized.zero is None else quantized.values - quantized.zero
    return (values * quantized.scale).view(quantized.shape).to(dtype)


def integer_product(x: Tensor, weight: Tensor) -> Tensor:  # int8 [M, K], [N, K] -> int32 [M, N]
    """x W^T without rounding, by the processor's own int8 product where torch offers it: on the CPU, and on a GPU for
    certain shapes."""
    on_gpu = x.is_cuda and x.size(0) > 16 and all(size % 8 == 0 for size in weight.shape)
    if on_gpu or x.device.type == "cpu":
        return torch._int_mm(x, weight.T)
    return product_in_floats(x, weight)


def product_in_floats(x: Tensor, weight: Tensor) -> Tensor:  # int8 [M, K], [N, K] -> int32 [M, N]
    """The same by fp32 products, in runs of K so short that every sum is exact."""
    out = torch.zeros(x.size(0), weight.size(0), dtype=torch.int32, device=x.device)
    for a, b in zip(torch.split(x, EXACT, 1), torch.split(weight, EXACT, 1), strict=True):
        out += (a.float() @ b.float().T).int()
    return out


class Int8Linear(nn.Module):
    """What both layers share: an int8 weight with a scale per output channel, kept as buffers, for an integer has no
    gradient. `parameters()` therefore does not see them: see `report`.

    Args:
        linear: the layer to quantize; its bias is kept as it is.
    """

    weight: Tensor  # int8 [N, K]
    scale: Tensor  # fp32 [N]

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bias = linear.in_features, linear.out_features, linear.bias
        quantized = quantize(linear.weight, axis=0)
        self.register_buffer("weight", quantized.values)
        self.register_buffer("scale", quantized.scale.flatten())

    def finish(self, product: Tensor, scale: Tensor, like: Tensor) -> Tensor:  # [M, N] -> [..., N]
        """Scale the sums once, add the bias, and go back to the input's shape and dtype."""
        out = product.float().mul_(scale).mul_(self.scale)  # [M, N] * [M, 1] * [N]
        if self.bias is not None:
            out = out + self.bias
        return out.view(*like.shape[:-1], -1).to(like.dtype)


class DynamicInt8Linear(Int8Linear):
    """Activations with a scale for each token, found when the token comes.

    Args:
        threshold: input features in which some token exceeds it are multiplied in float, beside the integers (LLM.int8,
            Dettmers et al. 2022, section 3.2). None: no feature is. Finding them costs a pass and, on a GPU, a wait.
    """

    def __init__(self, linear: nn.Linear, threshold: float | None = None) -> None:
        super().__init__(linear)
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:  # [..., K] -> [..., N]
        tokens = x.reshape(-1, self.in_features).float()
        if self.threshold is None:
            return self._in_integers(tokens, x)
        outlier = (tokens.abs() > self.threshold).any(dim=0)  # [K]
        apart = tokens[:, outlier] @ (self.weight[:, outlier] * self.scale[:, None]).T
        return self._in_integers(tokens.masked_fill(outlier, 0.0), x) + apart.view(*x.shape[:-1], -1).to(x.dtype)

    def _in_integers(self, tokens: Tensor, like: Tensor) -> Tensor:
        peak = tokens.abs().amax(dim=1, keepdim=True)
        scale, _ = scale_of(-peak, peak)  # [M, 1]
        return self.finish(integer_product(to_integers(tokens, scale), self.weight), scale, like)


class StaticInt8Linear(Int8Linear):
    """Activations with one scale and zero point, fixed beforehand.

    sum_k (q_k - zero) w_k = sum_k q_k w_k - zero sum_k w_k: the zero point needs no subtraction inside the product, but
    the sum of each row of weights, which is known beforehand too.

    Args:
        low, high: the range of the input that calibration found; what is beyond is cut off.
    """

    input_scale: Tensor  # fp32 []
    input_zero: Tensor  # fp32 [], a whole number
    zero_term: Tensor  # int32 [N]: zero * sum_k w_nk

    def __init__(self, linear: nn.Linear, low: float, high: float) -> None:
        super().__init__(linear)
        edges = torch.tensor([low, high], device=self.weight.device)
        scale, zero = scale_of(edges[0], edges[1], symmetric=False)
        assert zero is not None
        self.register_buffer("input_scale", scale)
        self.register_buffer("input_zero", zero)
        self.register_buffer("zero_term", self.weight.sum(dim=1, dtype=torch.int32) * zero.int())

    def forward(self, x: Tensor) -> Tensor:  # [..., K] -> [..., N]
        tokens = x.reshape(-1, self.in_features).float()
        product = integer_product(to_integers(tokens, self.input_scale, self.input_zero), self.weight)
        return self.finish(product - self.zero_term, self.input_scale, x)


def quantize_dynamic_(model: nn.Module, targets: Targets = ALL_LINEAR, threshold: float | None = None) -> int:
    """Put a DynamicInt8Linear in the place of each target, with `threshold`; returns how many.

    Raises:
        AdapterError: if a target names no linear layer.
    """
    return _replace_(model, targets, lambda path, layer: DynamicInt8Linear(layer, threshold))


def quantize_static_(model: nn.Module, ranges: Mapping[str, tuple[float, float]], targets: Targets = ALL_LINEAR) -> int:
    """Put a StaticInt8Linear in the place of each target; returns how many. Each takes and gives floats, so no part of
    the model needs to know of it.

    Args:
        ranges: low and high of each target's input, by path: from `calibration`.

    Raises:
        AdapterError: if a target names no linear layer.
        ModelError: if a target has no range.
    """
    missing = find_targets(model, targets, (nn.Linear,)).keys() - ranges.keys()
    if missing:
        raise ModelError(f"static int8: no range for {min(missing)}; calibrate the same targets")
    return _replace_(model, targets, lambda path, layer: StaticInt8Linear(layer, *ranges[path]))


def _replace_(model: nn.Module, targets: Targets, make: Callable[[str, nn.Linear], nn.Module]) -> int:
    found = find_targets(model, targets, (nn.Linear,))
    for path, layer in found.items():
        assert isinstance(layer, nn.Linear)
        model.set_submodule(path, make(path, layer).train(layer.training))
    return len(found)
