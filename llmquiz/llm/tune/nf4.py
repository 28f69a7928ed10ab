"""NF4: four bits a weight, as 16 quantiles of the normal distribution (Dettmers et al. 2023, section 3).

A code is an index into a table, not a small float: each block of 64 weights is divided by its largest magnitude, and
each quotient becomes the nearest of 16 levels. The scales cost 32 / 64 = 0.5 bits a weight; double quantization stores
them in 8 bits, with a scale of their own for 256 of them: 8 / 64 + 32 / (64 * 256) = 0.127 bits.

Four bits are for storage alone. Every product is taken with the dequantized weight, and the weight is frozen: a code
has no gradient. The backward pass needs the weight again; keeping the dequantized one for it would cost all that was
saved, so it is dequantized twice.

Shapes: N weights, padded with zeros to whole blocks; K blocks; D_in, D_out features of a layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmquiz.llm.tune.targets import ALL_LINEAR, Targets, find_targets

SCALES = 256  # scales that share a scale of their own
TINY = 1e-38  # a block of zeros is divided by this
OUTERMOST = 0.9677083  # 1 - (1/32 + 1/30) / 2: the last quantile cannot stand at 1, where it is infinite


def _nf4_levels() -> Tensor:
    """Quantiles of N(0, 1), scaled to [-1, 1]: 7 below zero, zero itself, 8 above. With as many on either side there
    would be no exact zero among 16."""
    quantile = NormalDist().inv_cdf
    above = [quantile(p) for p in torch.linspace(OUTERMOST, 0.5, 9).tolist()]
    below = [-quantile(p) for p in torch.linspace(OUTERMOST, 0.5, 8)[:-1].tolist()]
    return torch.tensor(sorted(below + above)) / max(above)


def _dynamic_levels() -> Tensor:
    """256 levels for scales: 7 decades on each side of zero, each with twice the levels of the one below (Dettmers
    2015). Small values keep their relative precision, large ones their absolute one."""
    positive = []
    for decade in range(7):
        edges = torch.linspace(0.1, 1, 2**decade + 1)
        positive.append((edges[:-1] + edges[1:]) / 2 * 10.0 ** (decade - 6))
    magnitudes = torch.cat(positive)
    return torch.cat([-magnitudes, torch.zeros(1), magnitudes, torch.ones(1)]).sort().values


NF4 = _nf4_levels()
FP4 = torch.tensor([0.0, 0.0625, 2, 3, 4, 6, 8, 12])  # sign, two bits of exponent, one of mantissa
FP4 = torch.cat([-FP4[1:].flip(0), FP4]) / 12
INT4 = torch.arange(-7, 8) / 7
DYNAMIC = _dynamic_levels()


@dataclass(frozen=True, slots=True)
class NF4Tensor:
    """A quantized tensor: two codes a byte, and what turns them back into numbers.

    Attributes:
        packed: uint8 [N / 2], the first of two codes in the high bits.
        absmax: the scale of each block: fp32 [K], or its 8-bit code, uint8 [K].
        outer: with double quantization, fp32 [K / 256 + 1]: a scale for 256 scales each, and the mean of all, which was
            taken off first because scales are positive and the 8-bit levels are not.
    """

    packed: Tensor
    absmax: Tensor
    outer: Tensor | None
    shape: torch.Size
    block: int
    levels: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales."""
        return self.packed.nbytes + self.absmax.nbytes + (0 if self.outer is None else self.outer.nbytes)


def quantize(weight: Tensor, block: int = 64, double: bool = True, levels: Tensor = NF4) -> NF4Tensor:
    """The nearest of `levels` (at most 16, sorted, within [-1, 1]) for each weight over its block's largest magnitude.

    Args:
        block: weights that share a scale; an even number. An outlier coarsens its block, so smaller is finer and
            costs 32 / block bits, or 8 / block with `double`.
        double: store the scales in 8 bits.
    """
    levels = levels.to(weight.device)
    codes, absmax = _quantize_blocks(weight, block, levels)
    packed = codes[0::2] << 4 | codes[1::2]  # [N] -> [N / 2]
    outer = None
    if double:
        mean = absmax.mean()
        absmax, scales = _quantize_blocks(absmax - mean, SCALES, DYNAMIC.to(weight.device))
        absmax, outer = absmax[: packed.numel() * 2 // block], torch.cat([scales, mean[None]])
    return NF4Tensor(packed, absmax, outer, weight.shape, block, levels)


def dequantize(quantized: NF4Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """level * scale of each weight, in fp32 and then rounded to `dtype`."""
    levels, absmax = quantized.levels, quantized.absmax
    if quantized.outer is not None:
        scales = quantized.outer[:-1].repeat_interleave(SCALES)[: absmax.numel()]
        absmax = DYNAMIC.to(levels.device)[absmax.int()] * scales + quantized.outer[-1]
    padded = F.pad(levels, (0, 16 - levels.numel()))
    pairs = torch.stack([padded.repeat_interleave(16), padded.repeat(16)], dim=1)  # [256, 2]: what each byte stands for
    both = pairs.view(torch.int64).take(quantized.packed.long())  # a pair of fp32 moves as one number: [N / 2]
    blocks = both.view(torch.float32).view(-1, quantized.block).mul_(absmax[:, None])
    return blocks.flatten()[: quantized.shape.numel()].view(quantized.shape).to(dtype)


def bits_per_parameter(quantized: NF4Tensor) -> float:
    """Bits a weight takes, its share of the scales included."""
    return 8 * quantized.nbytes / quantized.shape.numel()


def _quantize_blocks(x: Tensor, block: int, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Codes uint8 [N, padded to whole blocks] and scales fp32 [K]."""
    values = x.detach().float().flatten()
    blocks = F.pad(values, (0, -values.numel() % block)).view(-1, block)
    absmax = blocks.abs().amax(dim=1)
    midpoints = (levels[1:] + levels[:-1]) / 2
    codes = torch.bucketize(blocks * (1 / absmax.clamp(min=TINY))[:, None], midpoints)
    return codes.flatten().to(torch.uint8), absmax


class _FrozenProduct(torch.autograd.Function):
    """x W^T + b with a quantized W: the graph holds the codes, and the backward pass dequantizes them again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: NF4Tensor, bias: Tensor | None) -> Tensor:  # [..., D_in] -> [..., D_out]
        ctx.weight = weight
        return F.linear(x, dequantize(weight, x.dtype), None if bias is None else bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:  # [..., D_out] -> [..., D_in]
        (grad,) = grads
        return grad @ dequantize(ctx.weight, grad.dtype), None, None


class NF4Linear(nn.Module):
    """A frozen linear layer whose weight is stored in four bits and dequantized to the dtype of its input.

    Args:
        linear: the layer to quantize; its bias is kept as it is.
    """

    packed: Tensor
    absmax: Tensor
    outer: Tensor | None
    levels: Tensor

    def __init__(self, linear: nn.Linear, block: int = 64, double: bool = True, levels: Tensor = NF4) -> None:
        super().__init__()
        self.in_features, self.out_features, self.dtype = linear.in_features, linear.out_features, linear.weight.dtype
        quantized = quantize(linear.weight, block, double, levels)
        self.block, self.bias = block, linear.bias
        for name in ("packed", "absmax", "outer", "levels"):
            self.register_buffer(name, getattr(quantized, name))
        self.requires_grad_(False)

    @property
    def quantized(self) -> NF4Tensor:
        """The weight in four bits."""
        shape = torch.Size((self.out_features, self.in_features))
        return NF4Tensor(self.packed, self.absmax, self.outer, shape, self.block, self.levels)

    @property
    def weight(self) -> Tensor:  # [D_out, D_in]
        """The weight that the layer acts with, in the dtype of the layer that was quantized."""
        return dequantize(self.quantized, self.dtype)

    def forward(self, x: Tensor) -> Tensor:  # [..., D_in] -> [..., D_out]
        out: Tensor = _FrozenProduct.apply(x, self.quantized, self.bias)  # type: ignore[no-untyped-call]
        return out


def quantize_model_(model: nn.Module, targets: Targets = ALL_LINEAR, block: int = 64, double: bool = True) -> int:
    """Put an NF4Linear in the place of each target; quantize before adapters are added. Returns how many.

    Raises:
        AdapterError: if a target names no linear layer.
    """
    found = find_targets(model, targets, (nn.Linear,))
    for path, layer in found.items():
        assert isinstance(layer, nn.Linear)
        model.set_submodule(path, NF4Linear(layer, block, double).train(layer.training))
    return len(found)
