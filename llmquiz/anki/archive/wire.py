"""The wire format of protobuf, read without a schema (https://protobuf.dev/programming-guides/encoding).

A message is a run of numbered fields. Which type a field has is known to its reader alone: the wire tells only how long
it is, and a field that is absent has the zero of its type. Nothing here recurses, so no nesting is too deep.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

MOST_FIELDS = 100_000
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}
_FLOAT = struct.Struct("<f")


class WireError(ValueError):
    """Bytes that are no message; says why."""


class Message:
    """The fields of one message.

    Args:
        most: fields it may have.

    Raises:
        WireError: if the bytes are no message or have more fields; so do the getters for a field of another type.
    """

    __slots__ = ("_fields",)

    def __init__(self, data: bytes, *, most: int = MOST_FIELDS) -> None:
        self._fields: dict[int, list[int | bytes]] = {}
        for count, (number, value) in enumerate(_fields(data), start=1):
            if count > most:
                raise WireError(f"more than {most:,} fields")
            self._fields.setdefault(number, []).append(value)

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def unsigned(self, number: int) -> int:
        """A ``uint32``, an enum or a bool; of a longer number the lower 32 bits, as every reader takes it."""
        return self._varint(number) & 0xFFFF_FFFF

    def signed(self, number: int) -> int:
        """An ``int32`` or ``int64``: two's complement in 64 bits."""
        value = self._varint(number)
        return value - (1 << 64) if value >> 63 else value

    def data(self, number: int) -> bytes:
        """The raw bytes of a ``bytes`` field."""
        return _raw(number, self._last(number, b""))

    def text(self, number: int) -> str:
        """A ``string``; bytes that are no UTF-8 become U+FFFD."""
        return self.data(number).decode("utf-8", "replace")

    def single(self, number: int) -> float:
        """A ``float``."""
        value = self._last(number, bytes(4))
        return _single(_raw(number, value))

    def message(self, number: int) -> Message:
        """A message inside this one; empty if absent."""
        return Message(self.data(number))

    def messages(self, number: int) -> list[Message]:
        """A repeated message."""
        return [Message(_raw(number, value)) for value in self._fields.get(number, ())]

    def singles(self, number: int) -> list[float]:
        """A repeated ``float``, packed or not."""
        joined = b"".join(_raw(number, value) for value in self._fields.get(number, ()))
        if len(joined) > 4 * MOST_FIELDS:
            raise WireError(f"field {number} has more than {MOST_FIELDS:,} numbers")
        return [_single(joined[at : at + 4]) for at in range(0, len(joined), 4)]

    def integers(self, number: int) -> list[int]:
        """A repeated ``uint32``, packed or not."""
        found: list[int] = []
        for value in self._fields.get(number, ()):
            found.extend(number & 0xFFFF_FFFF for number in ([value] if isinstance(value, int) else _packed(value)))
            if len(found) > MOST_FIELDS:
                raise WireError(f"field {number} has more than {MOST_FIELDS:,} numbers")
        return found

    def _varint(self, number: int) -> int:
        value = self._last(number, 0)
        if not isinstance(value, int):
            raise WireError(f"field {number} is no integer")
        return value

    def _last(self, number: int, absent: int | bytes) -> int | bytes:
        return self._fields.get(number, (absent,))[-1]


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field: an int for a varint, else bytes."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if not number:
            raise WireError("a field without a number")
        if kind == _VARINT:
            number_value, at = _varint(data, at)
            yield number, number_value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in _FIXED_SIZES:
            size = _FIXED_SIZES[kind]
        else:
            raise WireError(f"a field of the unknown kind {kind}")
        if size > end - at:
            raise WireError(f"a field of {size:,} bytes where {end - at:,} are left")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise WireError("it ends inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, at
    raise WireError("a number of more than 64 bits")


def _packed(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _raw(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise WireError(f"field {number} is an integer")
    return value


def _single(raw: bytes) -> float:
    """The shortest decimal that is this single-precision number: 0.9, not 0.8999999761581421. No NaN, no infinity."""
    if len(raw) != _FLOAT.size:
        raise WireError("a number that is not four bytes")
    value: float = _FLOAT.unpack(raw)[0]
    if not math.isfinite(value):
        return 0.0
    for digits in (6, 7, 8):
        short = float(f"{value:.{digits}g}")
        if abs(short) < 3.4e38 and _FLOAT.pack(short) == raw:
            return short
    return float(f"{value:.9g}")
