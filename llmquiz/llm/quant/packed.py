"""Linear layers laid out for decoding: what one token at a time wants of a weight.

A token times a weight is a matrix-vector product. Each weight is read once and used once, so its speed is that of
reading, and fewer bits a weight are faster; but only through a kernel that widens them in registers. Dequantizing first
and multiplying then reads and writes the wide weight as well, and is slower than never having quantized.

What is fastest for one row is not for many, where each weight is used again and again and arithmetic decides. On a CPU
with AVX-512 fp16 decodes nearly twice as fast as fp32 and reads a prompt a third as fast; bf16 is the reverse; the
kernels of int8 and int4 fall behind bf16 at a dozen rows. So a layer may keep the weight twice: packed for few rows,
`wide` for many. Both are the same rounded weight, up to what bf16 rounds.

Each layer takes activations in any dtype and answers in that of the kernel that ran: int4 takes bf16, with fp32 it is
10 times slower. The bias is added in its own dtype.

Widening the codes of int8 to multiply them with floats costs more than reading them. Where the CPU multiplies integers
(VNNI), activations are rounded to 8 bits too, once for each product, and nothing is widened: twice as fast.

Shapes: R rows (tokens of all sequences), D_in, D_out features, G weights that share a scale, K = D_in / G.
"""

from __future__ import annotations

import mmap
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor
from torch.nn import functional as F

from llmquiz.llm.errors import ModelError

FORMS = ("fp32", "fp16", "bf16", "int8", "int4")
INT4_GROUP = 32  # weights a scale: 4 + 2 * 16 / 32 = 5 bits a weight
_INT4_ROWS = 16  # the kernel takes weights of a multiple of these
_LINE = 64  # bytes of a cache line, where a weight begins


def wide_dtype() -> torch.dtype:
    """bf16 where this CPU multiplies it in hardware, twice as fast as fp32 and half the bytes; else fp32."""
    in_hardware = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if in_hardware else torch.float32


class PackedLinear(ABC):
    """y = x W^T + b with W packed for up to `few_rows` rows, and perhaps wide besides for more.

    Args:
        weight: [D_out, D_in], in fp32.
        bias: [D_out] or None.
        wide: dtype of the second layout; None for none: less memory, slow prompts.
    """

    few_rows: int
    weight: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None, wide: torch.dtype | None) -> None:
        rounded = self.pack(weight)
        self.wide = None if wide is None else rounded.to(wide)
        self.bias = bias

    def __call__(self, x: Tensor) -> Tensor:  # [R, D_in] -> [R, D_out]
        if self.wide is not None and x.size(0) > self.few_rows:
            out = F.linear(x.to(self.wide.dtype), self.wide)
        else:
            out = self.multiply(x)
        return out if self.bias is None else out + self.bias

    def packed_bytes(self) -> int:
        """Bytes that one row reads."""
        return sum(t.nbytes for name, t in vars(self).items() if isinstance(t, Tensor) and name != "wide")

    @abstractmethod
    def pack(self, weight: Tensor) -> Tensor:
        """Keep the weight [D_out, D_in] rounded and laid out; give what it was rounded to, in fp32."""

    @abstractmethod
    def multiply(self, x: Tensor) -> Tensor:
        """x W^T of [R, D_in], by the kernel for few rows."""


class FloatLinear(PackedLinear):
    """A weight in fp32, fp16 or bf16, its rows one after the other."""

    few_rows = 1  # fp16 has a kernel for one row only

    def __init__(self, weight: Tensor, bias: Tensor | None, wide: torch.dtype | None, dtype: torch.dtype) -> None:
        self.dtype = dtype
        super().__init__(weight, bias, wide)

    def pack(self, weight: Tensor) -> Tensor:
        self.weight = weight.to(self.dtype)
        return self.weight.float()

    def multiply(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.dtype), self.weight)


class TransposedLinear(FloatLinear):
    """fp32, column after column: y becomes a sum of columns, each times one feature of x, and the matrix is read as one
    stream; row by row each y_i is a dot product that must be summed up by itself. A CPU decodes 1.5 times as fast, and
    many rows take the same time either way."""

    def pack(self, weight: Tensor) -> Tensor:
        self.weight = weight.t().contiguous().t()
        return weight


class Int8Linear(PackedLinear):
    """Codes of 8 bits, w ~ code * scale, with one scale in bf16 for each output."""

    few_rows = 12
    scale: Tensor

    def pack(self, weight: Tensor) -> Tensor:
        self.scale = (weight.abs().amax(1) / 127).clamp(min=1e-12).bfloat16()
        scale = self.scale[:, None].float()
        self.weight = (weight / scale).round().clamp(-127, 127).to(torch.int8)
        return self.weight * scale

    def multiply(self, x: Tensor) -> Tensor:
        return torch._weight_int8pack_mm(x.bfloat16(), self.weight, self.scale)


class DynamicInt8Linear(Int8Linear):
    """The same codes, multiplied with activations that are rounded to 8 bits as well, with one range for all rows.

    That serves the few rows of decoding. A prompt's first token often has activations a hundred times as large as all
    others, which the shared range would round to nothing: so prompts take the `wide` layout here too, although this
    kernel would read them faster still.
    """

    def pack(self, weight: Tensor) -> Tensor:
        rounded = super().pack(weight)
        scale, zero = self.scale.double(), torch.zeros(len(weight), dtype=torch.long)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.quantize_per", UserWarning)  # may go in a later torch
            codes = torch.quantize_per_channel(rounded, scale, zero, 0, torch.qint8)
            self._product = torch.ops.quantized.linear_prepack(codes, None)
        self._num_bytes = self.weight.nbytes + 2 * 4 * len(weight)  # the sum of each row, to take off the zero point
        del self.weight, self.scale
        return rounded

    def packed_bytes(self) -> int:
        return self._num_bytes

    def multiply(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.quantized.linear_dynamic(x.float(), self._product)
        return out

    @staticmethod
    def is_supported() -> bool:
        """Whether this CPU multiplies 8-bit integers without overflow, and this torch has the kernel."""
        return torch.cpu._is_vnni_supported() and "fbgemm" in torch.backends.quantized.supported_engines


class Int4Linear(PackedLinear):
    """Codes of 4 bits, w ~ (code - 8) * scale + middle, with scale and middle in bf16 for each G = 32 weights of a row.

    Raises:
        ModelError: if D_in is no multiple of 32, or D_out none of 16.
    """

    few_rows = 12
    scale_and_middle: Tensor  # [K, D_out, 2]

    def pack(self, weight: Tensor) -> Tensor:
        D_out, D_in = weight.shape
        if D_in % INT4_GROUP or D_out % _INT4_ROWS:
            raise ModelError(
                f"int4: a weight of {D_out} x {D_in} cannot be packed: the kernel takes multiples of {_INT4_ROWS} x "
                f"{INT4_GROUP}; use int8"
            )
        groups = weight.view(D_out, -1, INT4_GROUP)  # [D_out, K, G]
        low, high = groups.aminmax(dim=2, keepdim=True)
        scale = ((high - low) / 15).clamp(min=1e-12).bfloat16()  # [D_out, K, 1]
        middle = (low + 8 * scale.float()).bfloat16()
        codes = ((groups - middle.float()) / scale.float() + 8).round().clamp(0, 15)
        self.weight = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.view(D_out, D_in).int(), 1)
        self.scale_and_middle = torch.cat((scale, middle), dim=2).transpose(0, 1).contiguous()
        return ((codes - 8) * scale.float() + middle.float()).view(D_out, D_in)

    def multiply(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(
            x.bfloat16(), self.weight, INT4_GROUP, self.scale_and_middle
        )
        return out


def pack_linear(weight: Tensor, bias: Tensor | None, form: str) -> PackedLinear:
    """The layer for `weight` [D_out, D_in] in one of FORMS.

    On a CPU fp16, int8 and int4 keep a second, wide layout for prompts. An accelerator has one layout for all.

    Raises:
        ModelError: if the form is unknown, or int8 or int4 and the weight is not on a CPU, where their kernels are.
    """
    weight, on_cpu = weight.detach().float(), weight.device.type == "cpu"
    bias = None if bias is None else bias.detach()
    if form in ("int8", "int4") and on_cpu:
        int8 = DynamicInt8Linear if DynamicInt8Linear.is_supported() else Int8Linear
        return (int8 if form == "int8" else Int4Linear)(weight, bias, wide_dtype())
    if form == "fp32" and on_cpu:
        return TransposedLinear(weight, bias, None, torch.float32)
    dtypes = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    if form not in dtypes:
        known = FORMS if on_cpu else (*dtypes,)
        raise ModelError(f"pack: form {form!r} is not one of {', '.join(known)} on {weight.device.type}; choose one")
    return FloatLinear(weight, bias, wide_dtype() if form == "fp16" and on_cpu else None, dtypes[form])


def into_huge_pages(layers: Sequence[PackedLinear]) -> None:
    """Move the packed weights one behind the other into pages of 2 MiB instead of 4 KiB, where the system has them.

    A step reads all pages, and the address of each must be looked up: at 50M parameters the products of fp32 take a
    fourth less time after the move.
    """
    layers = [layer for layer in layers if hasattr(layer, "weight")]
    if sys.platform != "linux" or not layers or layers[0].weight.device.type != "cpu":
        return
    lengths = [-(-layer.weight.nbytes // _LINE) * _LINE for layer in layers]
    memory = mmap.mmap(-1, sum(lengths), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    places = torch.frombuffer(memory, dtype=torch.uint8).split_with_sizes(lengths)
    for layer, place in zip(layers, places, strict=True):
        weight = layer.weight
        moved = place[: weight.nbytes].view(weight.dtype).as_strided(weight.shape, weight.stride())
        layer.weight = moved.copy_(weight)
