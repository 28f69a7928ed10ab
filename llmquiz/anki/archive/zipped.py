"""A zip archive that nobody vouches for, read by the file without ever trusting what a header says.

`zipfile` holds the whole directory in memory before a caller can count its entries, and takes entries that are
encrypted, linked, doubled or named `../x`. Here the directory is walked entry by entry and refused at the first one
that no Anki writes; contents come in chunks of 64 KiB that are counted against size and checksum.
Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from llmquiz.anki.archive.limits import MB, Limits
from llmquiz.anki.archive.names import shown
from llmquiz.core.errors import ImportFileError

CHUNK = 1 << 16
RATIO_FROM = 16 * MB
"""Smaller files may be packed as tightly as they like: an empty page of a database packs a thousandfold."""
_MOST_NAME = 255
_STORED, _DEFLATED = 0, 8
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_EXTRA = struct.Struct("<2H")
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_UTF8 = 0x0800
_FULL16, _FULL32 = 0xFFFF, 0xFFFF_FFFF
_TYPE, _LINK = 0o170000, 0o120000
_OUTSIDE = re.compile(r"[/\\]|[A-Za-z]:|(?:.*/)?\.\.(?:/|$)|.*[\\\x00-\x1f\x7f]", re.DOTALL)
_WHOLE = "it is damaged or incomplete; get it again"


class Entry(NamedTuple):
    """A file of the archive; `packed` and `size` in bytes, as the directory has them."""

    name: str
    method: int
    crc: int
    packed: int
    size: int
    offset: int


class Archive:
    """The directory of an archive, checked, and the contents of its files.

    Args:
        path: for messages.
        file: open for as long as the archive is used.

    Raises:
        ImportFileError: if it is no zip archive, or one that passes the limits or holds what no Anki writes.
    """

    def __init__(self, path: Path, file: BinaryIO, limits: Limits) -> None:
        self.path = path
        self._file = file
        self._limits = limits
        self._end = file.seek(0, 2)
        self.entries: dict[str, Entry] = {}
        for entry in self._directory():
            if entry.name in self.entries:
                raise self.error(f"the entry {shown(entry.name)} is there twice")
            self.entries[entry.name] = entry
        self._check_sizes()

    def error(self, problem: str) -> ImportFileError:
        return ImportFileError(f"{self.path}: {problem}")

    def damaged(self, what: str) -> ImportFileError:
        return self.error(f"{what}; {_WHOLE}")

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """The contents, at most 64 KiB at a time.

        Raises:
            ImportFileError: if they are not what the directory says, in size or checksum.
        """
        size = crc = 0
        for chunk in self._unpacked(entry):
            size += len(chunk)
            if size > entry.size:
                raise self.damaged(f"the entry {shown(entry.name)} is larger than it says")
            crc = zlib.crc32(chunk, crc)
            yield chunk
        if size != entry.size or crc != entry.crc:
            raise self.damaged(f"the entry {shown(entry.name)} does not match its checksum")

    def _unpacked(self, entry: Entry) -> Iterator[bytes]:
        if entry.method == _STORED:
            yield from self._packed(entry)
            return
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            for packed in self._packed(entry):
                while packed and not inflater.eof:
                    yield inflater.decompress(packed, CHUNK)
                    packed = inflater.unconsumed_tail
            if not inflater.eof:
                yield inflater.decompress(b"", CHUNK)
        except zlib.error as error:
            raise self.damaged(f"the entry {shown(entry.name)} cannot be unpacked") from error

    def _packed(self, entry: Entry) -> Iterator[bytes]:
        at = self._contents_at(entry)
        left = entry.packed
        while left:
            chunk = self._read(at, min(left, CHUNK))
            at += len(chunk)
            left -= len(chunk)
            yield chunk

    def _contents_at(self, entry: Entry) -> int:
        """Where the contents start; the header before them must be of the same file."""
        signature, _, flags, method, _, _, _, _, _, name, extra = _LOCAL.unpack(self._read(entry.offset, _LOCAL.size))
        at = entry.offset + _LOCAL.size
        if signature != b"PK\3\4" or method != entry.method or self._name(self._read(at, name), flags) != entry.name:
            raise self.damaged(f"the entry {shown(entry.name)} is not where the directory says")
        return at + int(name) + int(extra)

    def _directory(self) -> Iterator[Entry]:
        at, end = self._directory_at()
        count = 0
        while at < end:
            header = _CENTRAL.unpack(self._read(at, _CENTRAL.size))
            if header[0] != b"PK\1\2":
                raise self.damaged("its directory cannot be read")
            count += 1
            if count > self._limits.files:
                raise self.error(f"more than {self._limits.files:,} files (limits.files)")
            name_size, extra_size, comment_size = header[10:13]
            if name_size > _MOST_NAME:
                raise self.error(f"a file's name has more than {_MOST_NAME} bytes; no Anki writes such a package")
            names = self._read(at + _CENTRAL.size, name_size + extra_size)
            yield self._entry(header, self._name(names[:name_size], header[3]), names[name_size:])
            at += _CENTRAL.size + name_size + extra_size + comment_size

    def _directory_at(self) -> tuple[int, int]:
        """Start and end of the directory, from the record at the end of the file."""
        tail = self._read(max(0, self._end - _END.size - _FULL16), min(self._end, _END.size + _FULL16))
        found = tail.rfind(b"PK\5\6")
        if found < 0 or found + _END.size > len(tail):
            raise self.error("not an Anki package (.apkg or .colpkg), or an incomplete one; get it again")
        end = self._end - len(tail) + found
        disk, _, _, _, size, start = _END.unpack_from(tail, found)[1:7]
        if end >= _LOCATOR.size:
            signature, _, at64, _ = _LOCATOR.unpack(self._read(end - _LOCATOR.size, _LOCATOR.size))
            if signature == b"PK\6\7":
                end = at64
                size, start = _END64.unpack(self._read(at64, _END64.size))[8:10]
        if disk or start + size != end:
            raise self.damaged("its directory is not where it should be")
        return start, end

    def _entry(self, header: tuple[int, ...], name: str, extra: bytes) -> Entry:
        flags, method, crc, packed, size = header[3], header[4], *header[7:10]
        mode, offset = header[15] >> 16, header[16]
        if _OUTSIDE.match(name):
            raise self.error(f"the entry {shown(name)} would lie outside of its folder; no Anki writes such a package")
        if mode & _TYPE == _LINK:
            raise self.error(f"the entry {shown(name)} is a link; no Anki writes such a package")
        if flags & _ENCRYPTED:
            raise self.error(f"the entry {shown(name)} is encrypted; export it again without a password")
        if method not in (_STORED, _DEFLATED):
            raise self.error(f"the entry {shown(name)} is packed by the unknown method {method}")
        if _FULL32 in (packed, size, offset):
            size, packed, offset = self._wide(extra, size, packed, offset)
        return Entry(name, method, crc, packed, size, offset)

    def _wide(self, extra: bytes, *narrow: int) -> list[int]:
        """The numbers of 64 bits that stand in an extra field for those of 32 that are full."""
        while len(extra) >= _EXTRA.size:
            kind, length = _EXTRA.unpack_from(extra)
            if kind == 1:
                numbers = iter(struct.unpack_from(f"<{length // 8}Q", extra.ljust(length + _EXTRA.size), _EXTRA.size))
                return [next(numbers, number) if number == _FULL32 else number for number in narrow]
            extra = extra[_EXTRA.size + length :]
        return list(narrow)

    def _name(self, raw: bytes, flags: int) -> str:
        return raw.decode("utf-8" if flags & _UTF8 or raw.isascii() else "cp437", "replace")

    def _check_sizes(self) -> None:
        for entry in self.entries.values():
            check_size(self, entry.name, packed=entry.packed, size=entry.size, limits=self._limits)
        if sum(entry.packed for entry in self.entries.values()) > self._end:
            raise self.error("its entries overlap; no Anki writes such a package")
        check_total(self, (entry.size for entry in self.entries.values()), self._limits)

    def _read(self, at: int, size: int) -> bytes:
        try:
            self._file.seek(at)
            data = self._file.read(size)
        except (OSError, OverflowError, ValueError) as error:
            raise self.damaged("it cannot be read") from error
        if len(data) != size:
            raise self.damaged("it ends too early")
        return data


def check_size(archive: Archive, name: str, *, packed: int, size: int, limits: Limits) -> None:
    """Refuse a file that is larger than the limits allow, or packed too tightly to be true."""
    if size > limits.file_mb * MB:
        raise archive.error(f"{shown(name)} has more than {limits.file_mb:,} MiB (limits.file_mb)")
    if size > RATIO_FROM and size > limits.ratio * packed:
        raise archive.error(f"{shown(name)} unpacks to more than {limits.ratio:,} times its size (limits.ratio)")


def check_total(archive: Archive, sizes: Iterator[int], limits: Limits) -> None:
    """Refuse files that are larger together than the limits allow."""
    if sum(sizes) > limits.total_mb * MB:
        raise archive.error(f"its files have more than {limits.total_mb:,} MiB together (limits.total_mb)")
