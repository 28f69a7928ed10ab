"""The files that belong to a library: decks that the user wrote, and the pictures and sounds of imported notes.

A name comes from a file that may be anybody's, so it must be a bare name on every system before a path is made of it.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from llmquiz import locations
from llmquiz.deck import reading
from llmquiz.deck.library import Folder, Library

_MAX_NAME = 255  # bytes
_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Home:
    """Where a library lies."""

    database: Path
    decks: Path
    media: Path

    @classmethod
    def present(cls) -> Home:
        """The user's own."""
        return cls(locations.database(), locations.user_decks(), locations.media())


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A media file that is there."""

    name: str
    path: Path
    sha1: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Placing:
    """A file that an import brings, waiting at `staged`; `replaces` if another one of the name says something else."""

    staged: Path
    place: Path
    replaces: bool


def name_problem(name: str) -> str | None:
    """Why `name` is not the name of a file in a folder, or None."""
    if not name or name.startswith(".") or PurePosixPath(name).name != name or PureWindowsPath(name).name != name:
        return "is not the bare name of a file"
    if _STEERING.search(name):
        return "holds control characters"
    return f"is longer than {_MAX_NAME} bytes" if len(name.encode("utf-8", "replace")) > _MAX_NAME else None


def deck_texts(folder: Path, findings: list[str]) -> Iterator[tuple[str, str]]:
    """Name and text of each deck file in `folder`, sorted; what cannot be read as text is told in `findings`."""
    for path in Library([Folder(folder, builtin=False)]).files():
        shown = reading.printable(path.name)
        try:
            problem = name_problem(path.name) or _file_problem(path)
            text = "" if problem else path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            problem = "is not UTF-8 text"
        except OSError as error:
            problem = f"cannot be read: {(error.strerror or str(error)).lower()}"
        if problem:
            findings.append(f"deck file '{shown}' {problem}; it is left out")
        else:
            yield path.name, text


def media_files(folder: Path, names: Sequence[str], findings: list[str]) -> Iterator[MediaFile]:
    """The media files of these names; one that is missing is told in `findings`."""
    for name in names:
        path = folder / name
        try:
            if problem := name_problem(name) or (None if path.is_file() else "is not in the media folder"):
                findings.append(f"media file '{reading.printable(name)}' {problem}; it is left out")
                continue
            with path.open("rb") as file:
                sha1 = hashlib.file_digest(file, _sha1).hexdigest()
                yield MediaFile(name, path, sha1, file.tell())
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            findings.append(f"media file '{reading.printable(name)}' cannot be read: {reason}; it is left out")


def placing(staged: Path, place: Path) -> Placing | None:
    """What is to be done with a staged file; None if the same is in its place already.

    Raises:
        OSError: if either cannot be read.
    """
    if not os.path.lexists(place):
        return Placing(staged, place, replaces=False)
    return None if _same(staged, place) else Placing(staged, place, replaces=True)


def put(found: Placing) -> Path | None:
    """Move a file to its place. Another one there is kept beside it under a new name, which is returned.

    Raises:
        OSError: if it cannot be moved.
    """
    found.place.parent.mkdir(parents=True, exist_ok=True)
    kept = None
    if os.path.lexists(found.place):
        kept = _beside(found.place)
        found.place.rename(kept)
    found.staged.replace(found.place)
    return kept


def _file_problem(path: Path) -> str | None:
    if not path.is_file():
        return "is not a regular file"
    too_large = path.stat().st_size > reading.MAX_BYTES
    return f"is larger than {reading.MAX_BYTES >> 20} MiB" if too_large else None


def _beside(place: Path) -> Path:
    """A name that is no deck's: its ending is another."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    names = (f"{place.name[:200]}.before-{stamp}{extra}" for extra in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(place.with_name(name) for name in names if not os.path.lexists(place.with_name(name)))


def _same(one: Path, other: Path) -> bool:
    if not other.is_file() or one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as a, other.open("rb") as b:
        return hashlib.file_digest(a, _sha1).digest() == hashlib.file_digest(b, _sha1).digest()


def _sha1() -> hashlib._Hash:
    return hashlib.sha1(usedforsecurity=False)
