"""The .apkg file: a zip of a collection and a map of media, written beside its target and moved over it when whole."""

from __future__ import annotations

import errno
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from shutil import copyfileobj

from llmquiz.core.errors import ExportError

_LEVEL = 1
"""Of compression: a fifth of the time of zlib's default for a tenth more bytes."""
_CHUNK = 1 << 20
_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest date a zip can hold: equal content gives equal bytes."""


def write(out: Path, collection: bytes, media: Mapping[str, bytes | Path] | None = None) -> int:
    """Write the package `out`; return its size in bytes. An existing file is replaced, or kept whole on any error.

    Args:
        media: pictures and sounds by the names that notes call them, or the files that hold them.

    Raises:
        ExportError: if `out` is a folder, or cannot be written, or the disk is full.
    """
    if out.is_dir():
        raise ExportError(f"{out}: is a folder; give the name of the file to write, e.g. {out / 'llmquiz.apkg'}")
    try:
        return _replaced(out, collection, media or {})
    except OSError as error:
        raise ExportError(f"{out}: {_problem(error, out)}") from error


def _replaced(out: Path, collection: bytes, media: Mapping[str, bytes | Path]) -> int:
    handle, name = tempfile.mkstemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            with zipfile.ZipFile(file, "w") as package:
                package.writestr(_entry("collection.anki21"), collection, compresslevel=_LEVEL)
                names = {str(number): name for number, name in enumerate(media)}
                package.writestr(_entry("media"), json.dumps(names, ensure_ascii=False).encode())
                for number, content in enumerate(media.values()):
                    _add_media(package, str(number), content)
            size = file.tell()
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o666 & ~_umask())
        part.replace(out)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    return size


def _add_media(package: zipfile.ZipFile, name: str, content: bytes | Path) -> None:
    """Pictures and sounds are compressed already."""
    entry = _entry(name, zipfile.ZIP_STORED)
    if isinstance(content, bytes):
        package.writestr(entry, content)
        return
    with content.open("rb") as source, package.open(entry, "w", force_zip64=True) as target:
        copyfileobj(source, target, _CHUNK)


def _entry(name: str, method: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.compress_type = method
    entry.external_attr = 0o644 << 16
    return entry


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _problem(error: OSError, out: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space or choose another folder with -o"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"the folder {out.parent} cannot be written; choose another with -o"
    if isinstance(error, FileNotFoundError) and not out.parent.is_dir():
        return f"there is no folder {out.parent}; make it or choose another with -o"
    return f"cannot be written: {(error.strerror or str(error)).lower()}"
