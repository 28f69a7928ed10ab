"""BLAKE3, the hash by which hashcards names its cards; Python's own library stops at BLAKE2.

A text is cut into chunks of 1,024 bytes, whose hashes are the leaves of a binary tree. The tree leans to the left: a
left branch is full, with a power of two of chunks, and the right one has the rest. Nothing here is secret, so nothing
here is fast: a third of a millisecond for a card.
https://github.com/BLAKE3-team/BLAKE3-specs
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_START: tuple[int, ...] = (
    0x6A09E667,
    0xBB67AE85,
    0x3C6EF372,
    0xA54FF53A,
    0x510E527F,
    0x9B05688C,
    0x1F83D9AB,
    0x5BE0CD19,
)
_CHUNK_START, _CHUNK_END, _PARENT, _ROOT = 1, 2, 4, 8
_BLOCK, _CHUNK, _ROUNDS = 64, 1024, 7
_MASK = 0xFFFFFFFF
_SHUFFLE = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
_COLUMNS_AND_DIAGONALS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip
_WORDS = struct.Struct("<16I")
_DIGEST = struct.Struct("<8I")


class _Node(NamedTuple):
    """The input of the last compression of a subtree: whether it is the root is known only once all is read."""

    chain: tuple[int, ...]
    block: tuple[int, ...]
    counter: int
    length: int
    flags: int

    def digest(self, extra: int = 0) -> tuple[int, ...]:
        return _compress(self.chain, self.block, self.counter, self.length, self.flags | extra)


def hexdigest(data: bytes) -> str:
    """The BLAKE3 hash of `data`, 64 hexadecimal digits."""
    return _DIGEST.pack(*_tree(data, 0).digest(_ROOT)).hex()


def _tree(data: bytes, first: int) -> _Node:
    """The subtree of `data`, whose first chunk has the number `first`."""
    if len(data) <= _CHUNK:
        return _chunk(data, first)
    left = 1 << ((len(data) - 1) // _CHUNK).bit_length() - 1
    halves = _tree(data[: left * _CHUNK], first), _tree(data[left * _CHUNK :], first + left)
    return _Node(_START, halves[0].digest() + halves[1].digest(), 0, _BLOCK, _PARENT)


def _chunk(data: bytes, number: int) -> _Node:
    chain, flags = _START, _CHUNK_START
    blocks = [data[at : at + _BLOCK] for at in range(0, len(data), _BLOCK)] or [b""]
    for block in blocks[:-1]:
        chain = _compress(chain, _WORDS.unpack(block), number, _BLOCK, flags)
        flags = 0
    last = blocks[-1]
    return _Node(chain, _WORDS.unpack(last.ljust(_BLOCK, b"\0")), number, len(last), flags | _CHUNK_END)


def _compress(chain: tuple[int, ...], block: tuple[int, ...], counter: int, length: int, flags: int) -> tuple[int, ...]:
    v = [*chain, *_START[:4], counter & _MASK, counter >> 32, length, flags]
    words = block
    for _ in range(_ROUNDS):
        pair = iter(words)
        for a, b, c, d in _COLUMNS_AND_DIAGONALS:
            x, y, z, w = v[a], v[b], v[c], v[d]
            x = (x + y + next(pair)) & _MASK
            w ^= x
            w = (w >> 16 | w << 16) & _MASK
            z = (z + w) & _MASK
            y ^= z
            y = (y >> 12 | y << 20) & _MASK
            x = (x + y + next(pair)) & _MASK
            w ^= x
            w = (w >> 8 | w << 24) & _MASK
            z = (z + w) & _MASK
            y ^= z
            v[a], v[b], v[c], v[d] = x, (y >> 7 | y << 25) & _MASK, z, w
        words = tuple([words[at] for at in _SHUFFLE])
    return tuple([low ^ high for low, high in zip(v[:8], v[8:], strict=True)])
