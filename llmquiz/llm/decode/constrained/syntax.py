"""What may be written: regular expressions over bytes, as a tree.

The alphabet is bytes, not characters. Tokens of a byte-level tokenizer are strings of bytes, and one Chinese character
may be cut over three of them; an automaton over characters could not stop between. So a class of characters becomes a
choice of byte sequences, and half a character is a state like any other, from which the other half must follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

CodePoints: TypeAlias = tuple[int, int]  # first and last
MAX_CODE_POINT = 0x10FFFF
_SAME_LENGTH = ((0, 0x7F), (0x80, 0x7FF), (0x800, 0xD7FF), (0xE000, 0xFFFF), (0x10000, MAX_CODE_POINT))  # in UTF-8


@dataclass(frozen=True, slots=True)
class Byte:
    """One byte from `low` to `high`."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Seq:
    """One part after the other; without parts, the empty text."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Alt:
    """One of the options; without options, nothing matches."""

    options: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`part` from `low` to `high` times; without end if `high` is None."""

    part: Node
    low: int
    high: int | None


@dataclass(frozen=True, slots=True)
class Members:
    """Items in their order, each (what, is it required?), with `separator` between those that are there.

    A tree of the others would have to spell out which item comes first, and hold n^2 / 2 copies of n optional ones.
    """

    items: tuple[tuple[Node, bool], ...]
    separator: Node


Node: TypeAlias = Byte | Seq | Alt | Repeat | Members
EMPTY, NEVER = Seq(()), Alt(())


def literal(text: str) -> Node:
    """Exactly `text`, in UTF-8."""
    return Seq(tuple(Byte(byte, byte) for byte in text.encode()))


def optional(part: Node) -> Node:
    return Repeat(part, 0, 1)


def characters(ranges: Iterable[CodePoints]) -> Node:
    """Any one character whose code point is in one of `ranges`; surrogates are no characters and are left out."""
    return Alt(tuple(Seq(parts) for low, high in ranges for parts in _utf8(low, high)))


def complement(ranges: Iterable[CodePoints]) -> list[CodePoints]:
    """The code points that are in none of `ranges`."""
    found, free = [], 0
    for low, high in sorted(ranges):
        if free < low:
            found.append((free, low - 1))
        free = max(free, high + 1)
    return [*found, (free, MAX_CODE_POINT)] if free <= MAX_CODE_POINT else found


def size(node: Node) -> int:
    """How many bytes the tree has to tell apart, every repeat written out: the automaton's size, before it is built."""
    match node:
        case Byte():
            return 1
        case Seq(parts) | Alt(parts):
            return 1 + sum(map(size, parts))
        case Repeat(part, low, high):
            return 1 + size(part) * (low + 1 if high is None else high)
        case Members(items, separator):
            return 1 + sum(size(item) + size(separator) for item, _ in items)


def _utf8(low: int, high: int) -> Iterator[tuple[Byte, ...]]:
    for first, last in _SAME_LENGTH:
        begin, end = max(low, first), min(high, last)
        if begin <= end:
            yield from _between(chr(begin).encode(), chr(end).encode())


def _between(low: bytes, high: bytes) -> Iterator[tuple[Byte, ...]]:
    """The strings from `low` to `high`, of their length, as sequences in which each byte has a range of its own: only
    where the first byte is the least or the greatest are the bytes after it bound."""
    first, last, rest = low[0], high[0], len(low) - 1
    if not rest:
        yield (Byte(first, last),)
        return
    least, greatest = b"\x80" * rest, b"\xbf" * rest
    if first == last:
        yield from ((Byte(first, first), *tail) for tail in _between(low[1:], high[1:]))
        return
    if low[1:] != least:
        yield from ((Byte(first, first), *tail) for tail in _between(low[1:], greatest))
        first += 1
    if high[1:] != greatest:
        yield from ((Byte(last, last), *tail) for tail in _between(least, high[1:]))
        last -= 1
    if first <= last:
        yield (Byte(first, last), *(Byte(0x80, 0xBF) for _ in range(rest)))
