"""Round to nearest: weights as small integers on an evenly spaced grid, 2 to 8 bits each, without any data.

weight ~ (code - zero) * scale, with a scale and a zero for every group of weights of a row. What people get wrong is
the price: "4 bits" is 4 bits and a share of the group's constants, b + (16 + b) / G with a scale in fp16 and a zero in
b bits. Small groups are more exact because an outlier coarsens only its own group, and they cost more.

No step here looks at what the weights are multiplied with; `gptq` and `awq` use the same grid and do.

Shapes: D_out, D_in features of a layer; G weights of a group; K = D_in / G groups of a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llmquiz.llm.errors import ModelError
from llmquiz.llm.tune.targets import ALL_LINEAR, Targets, find_targets

SMALLEST = 2.0**-24  # of fp16: the scale of a group of zeros
CLIPS = torch.arange(1.0, 0.45, -0.05)  # parts of a group's range that the search tries


@dataclass(frozen=True, slots=True)
class Grid:
    """Where quantized weights may lie.

    Attributes:
        bits: of a code, 2 to 8.
        group: G, weights of a row that share a scale; None for the whole row (per channel).
        symmetric: zero stands in the middle and is not stored. The lowest of the 2^bits codes then stays unused.
        clip: search the part of each group's range that gives the least squared error; what lies outside is cut off.

    Raises:
        ModelError: if the bits are not within 2..8.
    """

    bits: int = 4
    group: int | None = None
    symmetric: bool = False
    clip: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise ModelError(f"grid: {self.bits} bits; use 2 to 8")

    @property
    def top(self) -> int:
        """The largest code; the smallest is 0."""
        return int(2**self.bits - 1)

    def groups(self, weight: Tensor) -> Tensor:  # [D_out, D_in] -> [D_out, K, G]
        """The weight with its groups apart.

        Raises:
            ModelError: if the groups do not divide the row.
        """
        size = self.group or weight.size(1)
        if weight.size(1) % size:
            raise ModelError(f"grid: groups of {size} do not divide a row of {weight.size(1)}; use a divisor")
        return weight.reshape(weight.size(0), -1, size)

    def fit(self, groups: Tensor) -> tuple[Tensor, Tensor]:  # [..., G] -> [..., 1] twice
        """The scale and zero of each group; both are what storage keeps of them: fp16 numbers and whole numbers."""
        if not self.clip:
            return self._fit_range(groups, 1.0)
        best = scale = zero = torch.tensor(torch.inf, device=groups.device)
        for part in CLIPS.tolist():
            found = self._fit_range(groups, part)
            error = (self.round(groups, *found) - groups).square().sum(-1, keepdim=True)
            scale, zero = (torch.where(error < best, *pair) for pair in zip(found, (scale, zero), strict=True))
            best = torch.minimum(best, error)
        return scale, zero

    def _fit_range(self, groups: Tensor, part: float) -> tuple[Tensor, Tensor]:
        if self.symmetric:
            scale = as_stored(part * groups.abs().amax(-1, keepdim=True) / (self.top // 2))
            return scale, torch.full_like(scale, self.top // 2 + 1)
        low, high = groups.aminmax(dim=-1, keepdim=True)
        low, high = part * low.clamp(max=0), part * high.clamp(min=0)  # zero itself stays exact
        scale = as_stored((high - low) / self.top)
        return scale, (-low / scale).round().clamp(0, self.top)

    def encode(self, x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        """The code of each number, 0..top, still as a float."""
        return ((x / scale).round() + zero).clamp(0, self.top)

    def round(self, x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        """Each number at the nearest point of the grid."""
        return (self.encode(x, scale, zero) - zero) * scale

    def nearest(self, weight: Tensor) -> Tensor:  # [D_out, D_in] -> same
        """What `quantize` and `dequantize` make of a weight, without packing it."""
        groups = self.groups(weight)
        return self.round(groups, *self.fit(groups)).flatten(1)


@dataclass(frozen=True, slots=True)
class Quantized:
    """A weight as packed codes and the constants of its groups.

    Attributes:
        packed: uint8 [D_out * D_in * bits / 8], the codes as one row of bits.
        scale: fp16 [D_out, K].
        zeros: uint8, packed as the codes are; None if the grid is symmetric.
    """

    packed: Tensor
    scale: Tensor
    zeros: Tensor | None
    shape: torch.Size
    grid: Grid

    @classmethod
    def from_codes(cls, codes: Tensor, scale: Tensor, zero: Tensor, grid: Grid) -> Quantized:
        """Pack codes [D_out, D_in] with scale and zero [D_out, K]."""
        zeros = None if grid.symmetric else pack(zero, grid.bits)
        return cls(pack(codes, grid.bits), scale.half(), zeros, codes.shape, grid)

    @property
    def nbytes(self) -> int:
        """Bytes of codes, scales and zeros."""
        return self.packed.nbytes + self.scale.nbytes + (0 if self.zeros is None else self.zeros.nbytes)

    @property
    def bits_per_weight(self) -> float:
        """Bits that a weight takes, its share of scale and zero included."""
        return 8 * self.nbytes / self.shape.numel()

    def codes(self) -> Tensor:
        """uint8 [D_out, D_in]."""
        return unpack(self.packed, self.grid.bits, self.shape.numel()).view(self.shape)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weight [D_out, D_in], in fp32 and then rounded to `dtype`."""
        if self.zeros is None:
            zero = torch.full_like(self.scale, self.grid.top // 2 + 1, dtype=torch.float32)
        else:
            zero = unpack(self.zeros, self.grid.bits, self.scale.numel()).view(self.scale.shape).float()
        groups = self.grid.groups(self.codes().float())
        return ((groups - zero[..., None]) * self.scale.float()[..., None]).flatten(1).to(dtype)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Codes of any shape as one row of bits, the lowest bit of each code first: uint8 [ceil(N * bits / 8)]."""
    places = torch.arange(8, device=codes.device, dtype=torch.uint8)
    stream = (codes.flatten().to(torch.uint8)[:, None] >> places[:bits] & 1).flatten()  # [N * bits]
    stream = nn.functional.pad(stream, (0, -stream.numel() % 8))
    return (stream.view(-1, 8) << places).sum(1, dtype=torch.uint8)


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """The first `count` codes of a row of bits: uint8 [count]."""
    places = torch.arange(8, device=packed.device, dtype=torch.uint8)
    stream = (packed[:, None] >> places & 1).flatten()[: count * bits]
    return (stream.view(-1, bits) << places[:bits]).sum(1, dtype=torch.uint8)


def quantize(weight: Tensor, grid: Grid) -> Quantized:
    """Each weight of [D_out, D_in] at the nearest point of its group's grid.

    Raises:
        ModelError: if the groups do not divide the row.
    """
    groups = grid.groups(weight.detach().float())  # [D_out, K, G]
    scale, zero = grid.fit(groups)
    codes = grid.encode(groups, scale, zero).flatten(1)
    return Quantized.from_codes(codes, scale[..., 0], zero[..., 0], grid)


@torch.no_grad()
def quantize_model_(model: nn.Module, grid: Grid, targets: Targets = ALL_LINEAR) -> dict[str, Quantized]:
    """Round the weights of the targets, in place: each layer computes with what its codes stand for, at full speed and
    full size, so that the cost in quality can be measured. Returns the codes, by path of the layer.

    Raises:
        AdapterError: if a target names no linear layer.
        ModelError: if the groups do not divide a row.
    """
    quantized = {}
    for path, layer in find_targets(model, targets, (nn.Linear,)).items():
        assert isinstance(layer, nn.Linear)
        quantized[path] = quantize(layer.weight, grid)
        layer.weight.copy_(quantized[path].dequantize(layer.weight.dtype))
    return quantized


def as_stored(scale: Tensor) -> Tensor:
    """What fp16 keeps of a scale."""
    return scale.clamp(min=SMALLEST).half().float()
