"""Narrow floats need a scale beside them: one for a tensor, for a row, or for a block of 16 or 32.

What people get wrong is what the scale is for. An integer's scale sets its resolution. A float of 8 bits has the same
relative resolution wherever it is in range, so its scale only has to keep numbers within the range, and a finer one
hardly helps e4m3, which spans 18 powers of two. Four bits are another matter: e2m1 has eight magnitudes from 0 to 6, so
whatever shares a scale with an outlier becomes zero, and a scale for every few numbers confines that to a block. There
the scales are a cost that counts: MX spends 8 bits on 32 numbers, a power of two; NVFP4 spends 8 on 16, an e4m3 number,
which can put the largest of them where it should be.

The linear layer is simulated: fp32 multiplies numbers that fp8 can hold. Products of two 4-bit significands are exact,
so what may differ from hardware are the sums. Ours are fp32; Hopper's tensor cores keep about 14 bits of a sum, unless
the kernel moves it to fp32 now and then (DeepSeek-AI 2024, arXiv:2412.19437, section 3.3.2).

Shapes: M tokens, K input features, N output features, G numbers of a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmquiz.llm.errors import ModelError
from llmquiz.llm.quant.formats import E2M1, E4M3, FloatFormat, decode, encode
from llmquiz.llm.tune.targets import ALL_LINEAR, Targets, find_targets

Per: TypeAlias = Literal["tensor", "row"]
SMALLEST = 1e-30  # a scale where all numbers are zero
E8M0_BIAS = 127  # an MX scale is an exponent and nothing else: 2^(code - 127), code 255 is NaN
MX_BLOCK, NV_BLOCK = 32, 16


@dataclass(frozen=True, slots=True)
class BlockScaled:
    """Codes in blocks of G along the last axis, and a scale for each block.

    Attributes:
        codes: uint8 [..., K / G, G], one a byte; where they are stored or multiplied, two e2m1 share one.
        scales: uint8 [..., K / G], the codes of the scales: e8m0 (MX) or e4m3 (NVFP4).
        outer: fp32 [], what the scales are themselves multiplied with (NVFP4); None: nothing (MX).
    """

    codes: Tensor
    scales: Tensor
    outer: Tensor | None
    form: FloatFormat

    @property
    def bits(self) -> float:
        """Bits a number as the format packs it, its share of the scale included."""
        return self.form.bits + 8 / self.codes.size(-1)

    def dequantize(self) -> Tensor:  # fp32 [..., K]
        if self.outer is None:
            scales = torch.exp2(self.scales.float() - E8M0_BIAS)
        else:
            scales = decode(self.scales, E4M3) * self.outer
        return (decode(self.codes, self.form) * scales[..., None]).flatten(-2)


def to_mx(x: Tensor, form: FloatFormat = E2M1, block: int = MX_BLOCK) -> BlockScaled:
    """OCP microscaling (MX specification 1.0, section 6.3): the scale is the largest power of two that brings the
    block's largest magnitude into the format's last binade; what then lies above its largest number saturates.

    Raises:
        ModelError: if blocks do not divide the last axis.
    """
    blocks = _blocks(x, block)
    exponent = torch.frexp(blocks.abs().amax(dim=-1)).exponent - 1  # floor(log2(largest))
    last = int(torch.frexp(torch.tensor(form.maximum)).exponent) - 1
    scales = (exponent - last + E8M0_BIAS).clamp(0, 2 * E8M0_BIAS)
    fitted = torch.ldexp(blocks, E8M0_BIAS - scales[..., None]).clamp(-form.maximum, form.maximum)
    return BlockScaled(encode(fitted, form).to(torch.uint8), scales.to(torch.uint8), None, form)


def to_nvfp4(x: Tensor, block: int = NV_BLOCK) -> BlockScaled:
    """NVFP4 (NVIDIA 2025, arXiv:2509.25149, section 2): the largest magnitude of each block goes to 6, by a scale in
    e4m3; one fp32 scale for the tensor first brings those scales into the range of e4m3.

    Raises:
        ModelError: if blocks do not divide the last axis.
    """
    blocks = _blocks(x, block)
    largest = blocks.abs().amax(dim=-1)
    outer = (largest.max() / (E2M1.maximum * E4M3.maximum)).clamp(min=SMALLEST)
    scales = encode((largest / E2M1.maximum / outer).clamp(E4M3.smallest, E4M3.maximum), E4M3)
    fitted = blocks / (decode(scales, E4M3) * outer)[..., None]  # a little over 6 where the scale was rounded down
    return BlockScaled(encode(fitted, E2M1).to(torch.uint8), scales.to(torch.uint8), outer, E2M1)


def _blocks(x: Tensor, block: int) -> Tensor:  # [..., K] -> [..., K / G, G]
    if x.size(-1) % block:
        raise ModelError(f"blocks: {block} do not divide {x.size(-1)} numbers; use a divisor")
    return x.detach().float().reshape(*x.shape[:-1], -1, block)


def to_fp8(x: Tensor, per: Per = "row") -> tuple[Tensor, Tensor]:  # [M, K] -> e4m3 [M, K] and fp32 [M, 1] or [1, 1]
    """The numbers over their scale, and the scale: it puts the largest magnitude of a row, or of all, at 448.

    Clamped before the cast: e4m3fn has no infinity, and older versions of torch made NaN of what overflows.
    """
    x = x.detach().float()
    largest = x.abs().amax(dim=1, keepdim=True) if per == "row" else x.abs().amax().view(1, 1)
    scale = (largest / E4M3.maximum).clamp(min=SMALLEST)
    return (x / scale).clamp(-E4M3.maximum, E4M3.maximum).to(torch.float8_e4m3fn), scale


class Fp8Linear(nn.Module):
    """A linear layer with weights and activations in e4m3; a scale for each output channel and each token, or one for
    the weight and one for the input, found as it comes.

    It gives the numbers of `torch._scaled_mm`, which a GPU of compute capability 8.9 and more runs at twice the speed
    of bf16. Simulated, it saves memory and no time.

    Args:
        linear: the layer to quantize; its bias is kept as it is.
    """

    weight: Tensor  # e4m3 [N, K]
    scale: Tensor  # fp32 [N, 1] or [1, 1]

    def __init__(self, linear: nn.Linear, per: Per = "row") -> None:
        super().__init__()
        self.in_features, self.bias, self.per = linear.in_features, linear.bias, per
        weight, scale = to_fp8(linear.weight, per)
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:  # [..., K] -> [..., N]
        codes, scale = to_fp8(x.reshape(-1, self.in_features), self.per)
        out = F.linear(codes.float(), self.weight.float()) * scale * self.scale.T
        if self.bias is not None:
            out = out + self.bias
        return out.view(*x.shape[:-1], -1).to(x.dtype)


def quantize_fp8_(model: nn.Module, per: Per = "row", targets: Targets = ALL_LINEAR) -> int:
    """Put an Fp8Linear in the place of each target; returns how many.

    Raises:
        AdapterError: if a target names no linear layer.
    """
    found = find_targets(model, targets, (nn.Linear,))
    for path, layer in found.items():
        assert isinstance(layer, nn.Linear)
        model.set_submodule(path, Fp8Linear(layer, per).train(layer.training))
    return len(found)
