"""An .apkg or .colpkg, opened so that nothing in it can hurt: no name becomes a path, no size is believed.

Which file is the collection depends on `meta`: since version 3 it is `collection.anki21b` (zstd), and the
`collection.anki2` beside it holds a single note that says "please update". Falling back to that one would lose a
collection without a word, so a package that lacks what its `meta` promises is refused.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import zstandard

from llmquiz.anki.archive import mediamap, space, streams
from llmquiz.anki.archive.limits import MB, Limits
from llmquiz.anki.archive.wire import Message, WireError
from llmquiz.anki.archive.zipped import Archive, Entry, check_size
from llmquiz.core.errors import ImportFileError

_VERSIONS = {1: "anki2", 2: "anki21", 3: "anki21b"}
_NEWEST = "anki21b"
_META_BYTES = 1024
_PREFIX = "llmquiz-import-"
_STALE_SECONDS = 24 * 3600
_AGAIN = "in Anki, export it again"


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A picture or a sound of the package.

    Attributes:
        size: bytes that `open` gives; a stream that would give others raises ImportFileError instead.
        open: its bytes from the start, as often as wanted while the package is open.
    """

    name: str
    size: int
    open: Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class Package:
    """A package whose archive, version and media map were checked.

    Attributes:
        path: of the package.
        collection: a private copy of the SQLite file, for as long as the package is open.
        version: ``anki2``, ``anki21`` or ``anki21b``.
        media: by name; each name is flat and safe to write.
        findings: what was left out, a line each.
    """

    path: Path
    collection: Path
    version: str
    media: Mapping[str, MediaFile]
    findings: list[str]

    def error(self, problem: str) -> ImportFileError:
        return ImportFileError(f"{self.path}: {problem}")


@contextmanager
def opened(path: Path, limits: Limits) -> Iterator[Package]:
    """Open the package at `path`. Its collection lies in a temporary folder that goes when it is closed.

    Raises:
        ImportFileError: if it is none, is damaged, was made by an unknown version of Anki or passes the limits.
    """
    with _file(path) as file:
        archive = Archive(path, file, limits)
        version = _version(archive)
        with _folder(path) as folder:
            collection = folder / "collection.db"
            size = _extract(archive, f"collection.{version}", version, collection, limits)
            findings: list[str] = []
            media = _media(archive, version, size, limits, findings)
            yield Package(path, collection, version, media, findings)


@contextmanager
def _file(path: Path) -> Iterator[BinaryIO]:
    if not path.is_file():
        raise ImportFileError(f"{path}: {'is no file' if path.exists() else 'there is no such file'}")
    try:
        file = path.open("rb")
    except OSError as error:
        raise ImportFileError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    with file:
        yield file


@contextmanager
def _folder(path: Path) -> Iterator[Path]:
    _sweep(Path(tempfile.gettempdir()))
    try:
        folder = tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True)
    except OSError as error:
        raise ImportFileError(f"{path}: {space.lacking(error)}") from error
    with folder as name:
        yield Path(name)


def _sweep(place: Path) -> None:
    """Remove the copies of imports that were killed; a link is none of ours, and another user's folder stays."""
    for folder in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if not folder.is_symlink() and folder.stat().st_mtime < time.time() - _STALE_SECONDS:
                shutil.rmtree(folder)


def _version(archive: Archive) -> str:
    entries = archive.entries
    if "meta" in entries:
        try:
            number = Message(_whole(archive, archive.chunks(entries["meta"]), _META_BYTES, "meta")).unsigned(1)
        except WireError as error:
            raise archive.damaged(f"its meta is not that of an Anki package: {error}") from error
        if number not in _VERSIONS:
            hint = "export it with 'Support older Anki versions' ticked"
            raise archive.error(f"package version {number} is not known; in Anki, {hint}")
        version = _VERSIONS[number]
    elif f"collection.{_NEWEST}" in entries:
        raise archive.error(f"it has a collection.{_NEWEST}, but no meta; {_AGAIN}")
    else:
        version = "anki21" if "collection.anki21" in entries else "anki2"
    if f"collection.{version}" not in entries:
        raise archive.error(f"there is no collection.{version} in it; {_AGAIN}")
    return version


def _extract(archive: Archive, name: str, version: str, target: Path, limits: Limits) -> int:
    """Write the collection to `target`; its size in bytes."""
    size = 0
    try:
        with target.open("xb") as file:
            for chunk in _contents(archive, archive.entries[name], version, limits):
                size += file.write(chunk)
    except OSError as error:
        raise archive.error(space.lacking(error)) from error
    return size


def _contents(archive: Archive, entry: Entry, version: str, limits: Limits) -> Iterator[bytes]:
    """The chunks of a file, as it was before it was packed in the way of `version`."""
    if version != _NEWEST:
        yield from archive.chunks(entry)
        return
    size = 0
    try:
        for chunk in streams.unzstd(archive.chunks(entry)):
            size += len(chunk)
            check_size(archive, entry.name, packed=entry.packed, size=size, limits=limits)
            yield chunk
    except zstandard.ZstdError as error:
        raise archive.damaged(f"the entry '{entry.name}' is not packed with zstd: {error}") from error


def _media(archive: Archive, version: str, taken: int, limits: Limits, findings: list[str]) -> dict[str, MediaFile]:
    if "media" not in archive.entries:
        return {}
    chunks = _contents(archive, archive.entries["media"], version, limits)
    data = _whole(archive, chunks, limits.media_map_mb * MB, "its media map", "limits.media_map_mb")
    read = mediamap.newest if version == _NEWEST else mediamap.older
    media: dict[str, MediaFile] = {}
    try:
        for name, key, told in mediamap.usable(read(data, limits.files), archive.entries.keys(), findings):
            entry = archive.entries[key]
            size = entry.size if told is None else told
            check_size(archive, name, packed=entry.packed, size=size, limits=limits)
            taken += size
            media[name] = MediaFile(name, size, _opener(archive, entry, version, size, limits))
    except ValueError as error:
        raise archive.error(f"its media map cannot be read: {error}; {_AGAIN}") from error
    if taken > limits.total_mb * MB:
        raise archive.error(f"its files have more than {limits.total_mb:,} MiB together (limits.total_mb)")
    return media


def _opener(archive: Archive, entry: Entry, version: str, size: int, limits: Limits) -> Callable[[], BinaryIO]:
    return lambda: streams.stream(_exact(archive, _contents(archive, entry, version, limits), size, entry.name))


def _exact(archive: Archive, chunks: Iterator[bytes], size: int, name: str) -> Iterator[bytes]:
    count = 0
    for chunk in chunks:
        count += len(chunk)
        if count > size:
            break
        yield chunk
    if count != size:
        raise archive.damaged(f"the media file '{name}' does not have the {size:,} bytes that it says")


def _whole(archive: Archive, chunks: Iterator[bytes], most: int, what: str, limit: str = "") -> bytes:
    """All chunks joined, unless they are more than `most` bytes."""
    whole = bytearray()
    for chunk in chunks:
        whole += chunk
        if len(whole) > most:
            raise archive.error(f"{what} has more than {most:,} bytes" + (f" ({limit})" if limit else ""))
    return bytes(whole)
