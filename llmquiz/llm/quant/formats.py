"""Floating-point formats, encoded and decoded by hand, from fp32 down to four bits.

The one thing to see: the codes of positive floats, read as integers, are in the order of their values. Rounding is
therefore the rounding of an integer; a carry out of the mantissa walks into the exponent by itself, and past the
largest number into infinity, if there is one. Formats with 8 bits and less differ in what they spend the top codes
on: e5m2 keeps IEEE 754's infinities, e4m3fn has no infinity and one NaN, so its largest number is 448 and not 240
(Micikevicius et al. 2022, table 1), and e2m1 has neither: it saturates at 6 (OCP MX specification 1.0, section 5.3.3).

A code is sign, exponent field E, mantissa field f, from high bits to low. Its value is (1 + f / 2^m) * 2^(E - bias), or
(f / 2^m) * 2^(1 - bias) where E = 0: those are the subnormals, which fill the gap around zero evenly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class FloatFormat:
    """A binary floating-point format.

    Attributes:
        exponent, mantissa: bits of each, besides the sign.
        dtype: torch's; of e2m1, which torch does not cast to, that of its codes.
        top: what the largest codes mean: `ieee`, the largest exponent is inf and NaN; `nan`, only the very last code
            is, as NaN; `finite`, none is.
    """

    name: str
    exponent: int
    mantissa: int
    dtype: torch.dtype
    top: Literal["ieee", "nan", "finite"] = "ieee"

    @property
    def bits(self) -> int:
        return 1 + self.exponent + self.mantissa

    @property
    def bias(self) -> int:
        """What is taken off the exponent field: half its range, so that 1.0 stands in the middle."""
        return int(2 ** (self.exponent - 1) - 1)

    @property
    def last(self) -> int:
        """The largest code without a sign."""
        return int(2 ** (self.bits - 1) - 1)

    @property
    def overflow(self) -> int:
        """The code of everything that is too large: infinity where there is one, else the largest number."""
        kept = {"ieee": int(2**self.mantissa) - 1, "nan": 1, "finite": 0}  # codes above, for NaN
        return self.last - kept[self.top]

    @property
    def maximum(self) -> float:
        """The largest finite number."""
        return float(decode(torch.tensor(self.overflow - (self.top == "ieee")), self))

    @property
    def smallest_normal(self) -> float:
        """Below it precision fades, bit by bit."""
        return 2.0 ** (1 - self.bias)

    @property
    def smallest(self) -> float:
        """The smallest number above zero; half of it and less is rounded to zero."""
        return self.smallest_normal * 2.0**-self.mantissa

    @property
    def epsilon(self) -> float:
        """From 1 to the next number. Rounding changes a normal number by at most half of it, relatively."""
        return 2.0**-self.mantissa

    @property
    def counts_to(self) -> int:
        """Up to here every whole number exists; adding 1 to it changes nothing, for a tie goes to the even mantissa."""
        return int(2 ** (self.mantissa + 1))

    def spacing(self, x: Tensor) -> Tensor:
        """The distance from each |x| to the next number above: 2^(exponent of x - m)."""
        exponent = torch.frexp(x.float().abs().clamp(min=self.smallest_normal)).exponent - 1
        return torch.ldexp(torch.ones_like(x, dtype=torch.float32), exponent - self.mantissa)

    def stall(self, addend: float) -> float:
        """Where a running sum of `addend` stops: the first power of two where half the spacing is no less than it."""
        return 2.0 ** (math.ceil(math.log2(addend)) + self.mantissa + 1)


FP32 = FloatFormat("fp32", 8, 23, torch.float32)
FP16 = FloatFormat("fp16", 5, 10, torch.float16)
BF16 = FloatFormat("bf16", 8, 7, torch.bfloat16)
E5M2 = FloatFormat("fp8 e5m2", 5, 2, torch.float8_e5m2)
E4M3 = FloatFormat("fp8 e4m3fn", 4, 3, torch.float8_e4m3fn, "nan")
E2M1 = FloatFormat("fp4 e2m1", 2, 1, torch.uint8, "finite")
FORMATS = (FP32, FP16, BF16, E5M2, E4M3, E2M1)


def encode(x: Tensor, form: FloatFormat) -> Tensor:
    """The code of the nearest number, ties to the even code, as int64. Subnormals are kept.

    What is too large becomes infinity, or saturates in a format without one, as torch's casts do. NaN becomes the last
    code, which in e2m1 is the largest number.
    """
    wide = x.detach().double()  # holds every number of every format here
    magnitude = wide.abs().clamp(max=2.0 ** (form.bias + 2))  # too large already; infinity would have no exponent
    exponent = torch.frexp(magnitude).exponent.long() - 1  # magnitude = 1.f * 2^exponent
    subnormal = magnitude < form.smallest_normal  # zero too; they are spaced as the first normals
    exponent = exponent.masked_fill(subnormal, 1 - form.bias)
    steps = (magnitude * _power(form.mantissa - exponent)).round()  # counted in spacings: 2^m + f, or f if subnormal
    code = ((exponent + form.bias - 1) << form.mantissa) + steps.nan_to_num(0).long()
    code = code.clamp(max=form.overflow).masked_fill(wide.isnan(), form.last)
    return code | (torch.signbit(wide).long() << (form.bits - 1))


def decode(code: Tensor, form: FloatFormat) -> Tensor:
    """The number of each code, fp32."""
    code = code.long()
    magnitude = code & form.last
    field, fraction = magnitude >> form.mantissa, magnitude & (2**form.mantissa - 1)
    steps = fraction + ((field > 0).long() << form.mantissa)  # with the leading one, which is not stored
    value = steps * _power(field.clamp(min=1) - form.bias - form.mantissa)
    value = value.masked_fill(magnitude > form.overflow, torch.nan)
    if form.top == "ieee":
        value = value.masked_fill(magnitude == form.overflow, torch.inf)
    return torch.where(code > form.last, -value, value).float()


def _power(exponent: Tensor) -> Tensor:
    """2^exponent in fp64."""
    return torch.exp2(exponent.double())


def round_to(x: Tensor, form: FloatFormat) -> Tensor:
    """Each number as the format keeps it, fp32."""
    return decode(encode(x, form), form)


def spell(code: int, form: FloatFormat) -> str:
    """The bits of a code: sign, exponent, mantissa."""
    digits = f"{code:0{form.bits}b}"
    return f"{digits[0]} {digits[1 : 1 + form.exponent]} {digits[1 + form.exponent :]}"
