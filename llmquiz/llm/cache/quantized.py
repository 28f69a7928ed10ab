"""A KV cache in 2, 4 or 8 bits: keys by channel, values by token (KIVI, Liu et al. 2024, section 3).

A group of numbers shares a scale, and its largest sets the step for all. Keys have a few channels that are large in
every token. A group within one token mixes them with small ones, which then round to nothing; a group within one
channel does not. Values have no such channels, and a scale a token keeps a token's error to itself.

A group of one channel runs along tokens, so it must wait until all of them have come. Meanwhile they stay in a tail of
full precision, which attention needs anyway: it looks at recent tokens most. New tokens are attended before they are
rounded, so a pass over T tokens gives what T single ones give if no group is completed but by its last.

A kernel for this reads codes and dequantizes in registers. torch has none, so here a step dequantizes all it attends
to: the cache is small, the step is not fast.

Shapes: L layers, B batch, H_kv K/V heads, T new tokens, S remembered, D head_dim, G group; Q = Q' G tokens quantized.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from llmquiz.llm.cache.base import Cache
from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.config import ModelConfig

Axis: TypeAlias = Literal["channel", "token"]
CONSTANTS = torch.float16  # of scale and zero: 32 bits a group
TINY = 1e-7  # the step of a group of equal numbers; an fp16 number


class Quantized(NamedTuple):
    """x = code * scale + zero. Groups run along tokens (`channel`) or along channels (`token`).

    Attributes:
        codes: uint8, 8 / bits numbers a byte: [B, H_kv, Q', G, D * bits / 8] or [B, H_kv, Q, D / G, G * bits / 8].
        scale: the step between two codes, fp16: [B, H_kv, Q', 1, D] or [B, H_kv, Q, D / G, 1].
        zero: what code 0 stands for, of the same shape.
    """

    codes: Tensor
    scale: Tensor
    zero: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of all three."""
        return sum(tensor.nbytes for tensor in self)


def quantize(x: Tensor, *, bits: int, axis: Axis, group: int) -> Quantized:  # [B, H_kv, Q, D]
    """Round each group to 2^bits even steps from its smallest number to its largest.

    Codes are taken with the scale and zero as they are stored, so that rounding those adds no error of its own.
    """
    B, H_kv, Q, D = x.shape
    shape = (B, H_kv, Q // group, group, D) if axis == "channel" else (B, H_kv, Q, D // group, group)
    grouped = x.reshape(shape).float()
    along = 3 if axis == "channel" else 4
    low, high = grouped.amin(along, keepdim=True), grouped.amax(along, keepdim=True)
    top = 2**bits - 1
    scale, zero = ((high - low) / top).clamp(min=TINY).to(CONSTANTS), low.to(CONSTANTS)
    codes = ((grouped - zero.float()) / scale.float()).round_().clamp_(0, top).to(torch.uint8)
    return Quantized(pack(codes, bits), scale, zero)


def dequantize(q: Quantized, *, bits: int, axis: Axis, dtype: torch.dtype) -> Tensor:  # -> [B, H_kv, Q, D]
    """code * scale + zero, in fp32 and then rounded to `dtype`."""
    grouped = torch.addcmul(q.zero.float(), unpack(q.codes, bits).float(), q.scale.float()).to(dtype)
    return grouped.flatten(2, 3) if axis == "channel" else grouped.flatten(3, 4)


def pack(codes: Tensor, bits: int) -> Tensor:  # uint8 [..., n] -> [..., n * bits / 8]
    """Put 8 / bits neighbours into a byte, the first in its low bits."""
    per_byte = 8 // bits
    packed = codes[..., ::per_byte].clone()
    for i in range(1, per_byte):
        packed |= codes[..., i::per_byte] << (i * bits)
    return packed


def unpack(packed: Tensor, bits: int) -> Tensor:  # uint8 [..., n * bits / 8] -> [..., n]
    """The codes that `pack` put together."""
    if bits == 8:
        return packed
    mask = 2**bits - 1
    return torch.stack([packed >> shift & mask for shift in range(0, 8, bits)], dim=-1).flatten(-2)


class _Stream:
    """The keys, or the values, of one layer: whole groups in codes, then the tail."""

    def __init__(self, bits: int, axis: Axis, group: int, residual: int) -> None:
        self.bits, self.axis, self.group, self.residual = bits, axis, group, residual
        self.codes: Quantized | None = None
        self.tail: Tensor | None = None
        self.rounded = 0  # tokens in codes

    @property
    def length(self) -> int:
        return self.rounded + (0 if self.tail is None else self.tail.size(2))

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in (self.codes, self.tail) if part is not None)

    def append(self, x: Tensor) -> tuple[Tensor, int]:  # [B, H_kv, T, D] -> [B, H_kv, S, D]
        """What to attend, with the new tokens as they came, and the bytes that were moved to make room."""
        moved = 0 if self.tail is None else self.tail.nbytes
        self.tail = x if self.tail is None else torch.cat((self.tail, x), dim=2)
        attended = self.tail if self.codes is None else torch.cat((self.restored(x.dtype), self.tail), dim=2)
        ready = (self.tail.size(2) - self.residual) // self.group * self.group
        if ready > 0:
            moved += 0 if self.codes is None else self.codes.nbytes
            self._round(ready)
        return attended, moved

    def restored(self, dtype: torch.dtype) -> Tensor:  # -> [B, H_kv, Q, D]
        assert self.codes is not None
        return dequantize(self.codes, bits=self.bits, axis=self.axis, dtype=dtype)

    def reorder(self, rows: Tensor) -> None:
        if self.codes is not None:
            self.codes = Quantized(*(part.index_select(0, rows) for part in self.codes))
        if self.tail is not None:
            self.tail = self.tail.index_select(0, rows)

    def truncate(self, length: int) -> None:
        """A group that is cut goes back to the tail, as it was rounded."""
        if self.tail is None:
            return
        if length >= self.rounded:
            self.tail = self.tail[:, :, : length - self.rounded].clone()
            return
        whole = length // self.group * self.group
        self.tail = self.restored(self.tail.dtype)[:, :, whole:length].clone()
        self._keep(whole)

    def _round(self, ready: int) -> None:
        """Move the first `ready` tokens of the tail into codes."""
        assert self.tail is not None
        new = quantize(self.tail[:, :, :ready], bits=self.bits, axis=self.axis, group=self.group)
        old = self.codes
        self.codes = new if old is None else Quantized(*(torch.cat(pair, dim=2) for pair in zip(old, new, strict=True)))
        self.rounded += ready
        self.tail = self.tail[:, :, ready:].clone()  # a view would keep all of it in memory

    def _keep(self, tokens: int) -> None:
        """Forget the codes after the first `tokens`, a number of whole groups."""
        assert self.codes is not None
        rows = tokens // self.group if self.axis == "channel" else tokens
        self.codes = Quantized(*(part[:, :, :rows].clone() for part in self.codes)) if tokens else None
        self.rounded = tokens


class QuantizedCache(Cache):
    """Keys and values in `bits` bits each, and 32 bits of scale and zero a group.

    With Q = G * max(0, (length - residual) // G) tokens in codes, it takes
    2 * L * B * H_kv * D * (Q * (bits + 32 / G) / 8 + (length - Q) * itemsize) bytes.

    Args:
        config: the model's shape.
        bits: 2, 4 or 8.
        keys: along which axis keys are scaled; values always by token.
        group: G, numbers that share a scale; it divides head_dim.
        residual: most recent tokens that are never rounded; up to G - 1 more wait for their group.

    Raises:
        ModelError: if bits or group do not fit.
    """

    def __init__(
        self, config: ModelConfig, *, bits: int = 4, keys: Axis = "channel", group: int = 32, residual: int = 0
    ) -> None:
        if bits not in (2, 4, 8):
            raise ModelError(f"quantized cache: {bits} bits do not fill a byte; use 2, 4 or 8")
        if group < 1 or config.head_dim % group or group * bits % 8:
            raise ModelError(
                f"quantized cache: groups of {group} at {bits} bits do not fill heads of {config.head_dim} evenly; "
                f"use a group of {config.head_dim}"
            )
        self._keys = [_Stream(bits, keys, group, residual) for _ in range(config.num_layers)]
        self._values = [_Stream(bits, "token", group, residual) for _ in range(config.num_layers)]

    @property
    def length(self) -> int:
        return min(stream.length for stream in self._values)

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # [B, H_kv, T, D] -> [B, H_kv, S, D]
        """Remember the new keys and values of `layer`; return what to attend: the past rounded, the new exact."""
        keys, moved_keys = self._keys[layer].append(k)
        values, moved_values = self._values[layer].append(v)
        self.copied_bytes += moved_keys + moved_values
        return keys, values

    def reorder(self, rows: Tensor) -> None:
        for stream in self._keys + self._values:
            stream.reorder(rows)

    def truncate(self, length: int) -> None:
        self._check_truncation(length)
        for stream in self._keys + self._values:
            stream.truncate(length)

    def bytes(self) -> int:
        """Bytes of codes, scales, zeros and tails."""
        return sum(stream.nbytes for stream in self._keys + self._values)

    def reserved_bytes(self) -> int:
        return self.bytes()

    def reset(self) -> None:
        for stream in self._keys + self._values:
            stream.codes, stream.tail, stream.rounded = None, None, 0
        self.copied_bytes = 0
