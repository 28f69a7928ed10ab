"""Pictures and sounds of imported notes: into the media folder, each under its own name, never over another.

A file lies there, whole and synced, before the row that speaks of it is committed; so a crash leaves at most a file
that nobody knows, and the next import takes that one for its own. While the database is locked nothing is copied, only
renamed: `gather` comes before the transaction, `place` and `publish` within it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from unicodedata import normalize

from llmquiz.core.errors import StoreError
from llmquiz.store.incoming import IncomingMedia
from llmquiz.store.soundness import Findings, clean

_CHUNK = 1 << 20
_LONGEST_NAME = 200  # bytes; file systems allow 255, and ours adds nine
_STAGING = ".incoming-"
_STALE_SECONDS = 3600
_UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class _Arrived:
    """A file of the import; `staged` is where its bytes wait, None if the folder has them or this is a dry run."""

    name: str
    sha1: str
    size: int
    staged: Path | None


class Media:
    """The media of one import. Use `gathered`, which clears away what was staged."""

    def __init__(self, folder: Path, findings: Findings, *, dry_run: bool) -> None:
        self._folder = folder
        self._findings = findings
        self._dry_run = dry_run
        self._staging = folder / f"{_STAGING}{os.getpid()}"
        self._arrived: list[_Arrived] = []
        self._published: list[tuple[Path, Path]] = []

    def gather(self, connection: sqlite3.Connection, media: Sequence[IncomingMedia]) -> None:
        """Read each file once: hashed and, if it is new here, staged. In a dry run only where names collide."""
        known = dict(connection.execute("SELECT name, sha1 FROM media").fetchall()) if media else {}
        names: set[str] = set()
        for one in media:
            name = clean(one.name)
            if _is_unsafe(name) or name in names:
                self._findings.say(f"media '{_shown(name)}': not a plain name, or there twice; left out")
                continue
            names.add(name)
            self._arrived.append(self._arrive(name, one, known.get(name)))

    def place(self, connection: sqlite3.Connection) -> dict[str, str]:
        """Write the rows; returns the new names of the files whose own name has another content here."""
        renamed: dict[str, str] = {}
        if not self._arrived:
            return renamed
        known = dict(connection.execute("SELECT name, sha1 FROM media").fetchall())
        owners = {_key(name): name for name in known}
        new: list[tuple[str, str, int]] = []
        for one in self._arrived:
            name = self._free_name(one, known, owners)
            if name not in known:
                known[name], owners[_key(name)] = one.sha1, name
                new.append((name, one.sha1, one.size))
            if one.staged and not (self._folder / name).exists():
                self._published.append((one.staged, self._folder / name))
            if name != one.name:
                renamed[one.name] = name
                self._findings.say(f"media '{_shown(one.name)}': another file has this name; kept as '{_shown(name)}'")
        connection.executemany("INSERT INTO media VALUES (?, ?, ?)", new)
        return renamed

    def publish(self) -> None:
        """Give the staged files their names.

        Raises:
            StoreError: if the folder cannot be written.
        """
        if self._published:
            with _explained(self._folder):
                for staged, target in self._published:
                    staged.replace(target)
                for folder in (self._folder, self._folder.parent):  # it may be new itself
                    _sync_folder(folder)

    def clear(self) -> None:
        """Remove what was staged and not published."""
        shutil.rmtree(self._staging, ignore_errors=True)

    def _arrive(self, name: str, one: IncomingMedia, known_sha1: str | None) -> _Arrived:
        path = self._folder / name
        if known_sha1 is None and self._dry_run and not path.exists():
            return _Arrived(name, "", 0, None)
        if known_sha1 is not None and path.is_file():
            with one.open() as stream:
                sha1, size = _hashed(stream)
            if sha1 == known_sha1 or self._dry_run:
                return _Arrived(name, sha1, size, None)
        elif self._dry_run:
            with one.open() as stream:
                return _Arrived(name, *_hashed(stream), None)
        return self._stage(name, one)

    def _stage(self, name: str, one: IncomingMedia) -> _Arrived:
        staged = self._staging / str(len(self._arrived))
        with one.open() as stream, _explained(self._folder):
            if not self._staging.is_dir():
                self._make_staging()
            with staged.open("wb") as file:
                sha1, size = _hashed(stream, file)
                file.flush()
                os.fsync(file.fileno())
        return _Arrived(name, sha1, size, staged)

    def _make_staging(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for old in self._folder.glob(f"{_STAGING}*"):
            with suppress(OSError):
                if time.time() - old.stat().st_mtime > _STALE_SECONDS:
                    shutil.rmtree(old)
        self._staging.mkdir(exist_ok=True)

    def _free_name(self, one: _Arrived, known: Mapping[str, str], owners: Mapping[str, str]) -> str:
        """Its own name or, if that is taken by another content, one with a piece of its hash."""
        path = Path(one.name)
        for name in (one.name, *(f"{path.stem}-{one.sha1[:digits]}{path.suffix}" for digits in (8, 40))):
            target = self._folder / name
            if name in known:
                if known[name] == one.sha1:
                    return name
            elif _key(name) not in owners and (not target.exists() or self._is_same(target, one)):
                return name
        raise StoreError(f"{self._folder / one.name}: no name is free for it; move the files of this name away")

    def _is_same(self, path: Path, one: _Arrived) -> bool:
        with _explained(self._folder):
            if not path.is_file() or path.stat().st_size != one.size:
                return False
            with path.open("rb") as file:
                return _hashed(file)[0] == one.sha1


@contextmanager
def gathered(
    connection: sqlite3.Connection, media: Sequence[IncomingMedia], folder: Path, findings: Findings, *, dry_run: bool
) -> Iterator[Media]:
    """The media of an import, staged beside their place.

    Raises:
        StoreError: if the folder cannot be written or the disk is full.
    """
    files = Media(folder, findings, dry_run=dry_run)
    try:
        files.gather(connection, media)
        yield files
    finally:
        files.clear()


def _hashed(stream: BinaryIO, copy: BinaryIO | None = None) -> tuple[str, int]:
    sha1, size = hashlib.sha1(usedforsecurity=False), 0
    while chunk := stream.read(_CHUNK):
        sha1.update(chunk)
        size += len(chunk)
        if copy:
            copy.write(chunk)
    return sha1.hexdigest(), size


def _key(name: str) -> str:
    """The same for names that some file systems hold for one: they fold letters' case and composition."""
    return normalize("NFC", name).casefold()


def _is_unsafe(name: str) -> bool:
    return not name or name.startswith(".") or bool(_UNSAFE.search(name)) or len(name.encode()) > _LONGEST_NAME


def _shown(name: str) -> str:
    return _UNSAFE.sub("\ufffd", name)[:80]


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"{folder}: disk is full, nothing was imported; free some space, then try again"
            ) from error
        reason = (error.strerror or str(error)).lower()
        raise StoreError(f"{folder}: media cannot be kept here: {reason}; nothing was imported") from error
