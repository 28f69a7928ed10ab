"""Chunks of bytes as a file, and zstd unpacked with a bound on what one call may bring.

A frame of zstd says how large a window its reader must keep, and four bytes of it can stand for 128 KiB: the window is
capped at the 8 MiB that every reader must have (RFC 8878, section 3.1.1.1.2), and the output is taken in pieces.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

import zstandard

CHUNK = 1 << 16
_WINDOW = 1 << 23
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class _Chunks(io.RawIOBase):
    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any buffer will do
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = memoryview(chunk)
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


def stream(chunks: Iterator[bytes]) -> BinaryIO:
    """`chunks` as a file to read from; an error of theirs comes out of its ``read``."""
    return io.BufferedReader(_Chunks(chunks), CHUNK)


def unzstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The content of a zstd frame, at most 64 KiB at a time.

    Raises:
        zstandard.ZstdError: if it is none, or needs a window of more than 8 MiB.
    """
    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
    with decompressor.stream_reader(stream(chunks), read_size=CHUNK, read_across_frames=True) as reader:
        while chunk := reader.read(CHUNK):
            yield chunk
