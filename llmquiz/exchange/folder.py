"""What a folder of Markdown files holds: the files themselves, and the pictures and sounds that they show.

A folder may come from anybody, so its links lead nowhere outside of it: a link to a folder is not entered, a link to a
file counts only if the file lies inside. Hidden folders belong to programs (`.obsidian`, `.git`, `.trash`).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from llmquiz.anki.archive.limits import Limits
from llmquiz.core.errors import ImportFileError
from llmquiz.deck.reading import printable
from llmquiz.exchange.textfile import MIB, reading

MARKDOWN = frozenset({".md", ".markdown"})
MEDIA = frozenset(
    f".{ending}"
    for ending in [
        "png",
        "jpg",
        "jpeg",
        "gif",
        "webp",
        "svg",
        "bmp",
        "avif",
        "mp3",
        "wav",
        "ogg",
        "m4a",
        "flac",
        "opus",
        "webm",
        "mp4",
        "mov",
    ]
)
_DEEPEST = 64
_OUTSIDE_NAME = re.compile(r"[^\w.-]+")
_LONGEST_STEM = 60


@dataclass(slots=True)
class Folder:
    """A folder that was walked through.

    Attributes:
        root: what paths within it, with slashes, count from.
        notes: Markdown files, in the order of their paths.
        media: the pictures and sounds that were asked for and found, by their path.
        findings: what was left out and why.
    """

    root: Path
    notes: list[str] = field(default_factory=list)
    media: dict[str, Path] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    _by_name: dict[str, str] = field(default_factory=dict)

    def media_file(self, target: str, note: str, *, anywhere: bool = False) -> str | None:
        """The path of the picture or sound that `note` calls `target`: from its folder, or from the root.

        Args:
            anywhere: also by its mere name in any folder, as Obsidian finds it.
        """
        home = PurePosixPath(note).parent
        for name in dict.fromkeys((target, unquote(target))):
            place = name.removeprefix("@/")
            for path in (_plain(home / place), _plain(PurePosixPath(place))):
                if path and self._has(path):
                    return path
            if anywhere and (found := self._by_name.get(PurePosixPath(place).name.lower())) and self._has(found):
                return found
        return None

    def _has(self, path: str) -> bool:
        if path in self.media:
            return True
        if PurePosixPath(path).suffix.lower() not in MEDIA:
            return False
        file = self.root / path
        try:
            inside = file.is_file() and file.resolve().is_relative_to(self.root.resolve())
        except (OSError, RuntimeError, ValueError):  # a name too long, a link in a circle, a zero byte
            return False
        if inside:
            self.media[path] = file
        return inside

    def add_name(self, path: str) -> None:
        """Note where a picture or a sound lies; of two with one name, Obsidian takes the one that is higher up."""
        name = PurePosixPath(path).name.lower()
        known = self._by_name.get(name)
        if known is None or (path.count("/"), path) < (known.count("/"), known):
            self._by_name[name] = path


def media_name(path: str) -> str:
    """A name for the media folder, where there are no folders, that no other path gives."""
    place = PurePosixPath(path)
    digits = blake2b(path.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    stem = _OUTSIDE_NAME.sub("_", place.stem)[:_LONGEST_STEM].strip("._-") or "media"
    return f"{stem}-{digits}{place.suffix.lower()}"


def walk(path: Path, limits: Limits, root: Path | None = None) -> Folder:
    """The Markdown files and media below the folder `path`, or the single file `path`.

    Args:
        root: an ancestor that paths count from; `path` itself by default.

    Raises:
        ImportFileError: if there are too many files or too much text, or `path` cannot be read.
    """
    with reading(path):
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    folder = Folder(root or (path if is_folder else path.parent))
    if is_folder:
        _add_all(folder, path, limits, notes=True)
    else:
        folder.notes.append(_relative(path, folder.root))
    if root is not None and root != path:
        _add_all(folder, root, limits, notes=False)
    return folder


def _add_all(folder: Folder, top: Path, limits: Limits, *, notes: bool) -> None:
    """Take in what lies below `top`; without `notes` only the names of its media."""
    total = 0
    for count, (file, size) in enumerate(_files(top, folder), start=1):
        if count > limits.files:
            raise ImportFileError(f"{printable(str(top))}: more than {limits.files:,} files; name a folder inside")
        ending = file.suffix.lower()
        if notes and ending in MARKDOWN:
            total += size
            folder.notes.append(_relative(file, folder.root))
        elif ending in MEDIA:
            folder.add_name(_relative(file, folder.root))
        if total > limits.total_mb * MIB:
            raise ImportFileError(
                f"{printable(str(top))}: more than {limits.total_mb} MiB of text; name a folder inside"
            )


def _files(top: Path, folder: Folder) -> Iterator[tuple[Path, int]]:
    """Regular files below `top` with their sizes, in the order of their names."""
    inside = top.resolve()
    waiting: list[tuple[Path, int]] = [(top, 0)]
    while waiting:
        here, depth = waiting.pop()
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            folder.findings.append(
                f"{printable(str(here))}: cannot be opened: {(error.strerror or '').lower()}; left out"
            )
            continue
        folders: list[tuple[Path, int]] = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = Path(entry.path)
            try:
                is_folder = entry.is_dir(follow_symlinks=False)
                if entry.is_symlink() and not path.resolve().is_relative_to(inside):
                    folder.findings.append(f"{printable(str(path))}: a link that leads out of the folder; left out")
                elif is_folder and depth < _DEEPEST:
                    folders.append((path, depth + 1))
                elif is_folder:
                    folder.findings.append(f"{printable(str(path))}: more than {_DEEPEST} folders deep; left out")
                elif entry.is_file():
                    yield path, entry.stat().st_size
            except (OSError, RuntimeError):  # a link in a circle, or one that is gone
                folder.findings.append(f"{printable(str(path))}: a link that leads nowhere; left out")
        waiting += reversed(folders)


def _relative(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix()


def _plain(path: PurePosixPath) -> str | None:
    """The path without dots; None if it leads out."""
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in (".", "/"):
            parts.append(part)
    return "/".join(parts)
