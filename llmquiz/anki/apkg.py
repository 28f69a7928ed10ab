"""The .apkg file: a zip of a collection and a map of media, written beside its target and moved over it when whole."""

from __future__ import annotations

import errno
import os
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

from llmquiz.core.errors import ExportError

_LEVEL = 5
"""Of compression: half the time of zlib's default for 5% more bytes."""
_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest date a zip can hold: equal content gives equal bytes."""


def write(out: Path, collection: bytes) -> int:
    """Write the package `out`; return its size in bytes. An existing file is replaced, or kept whole on any error.

    Raises:
        ExportError: if `out` is a folder, or cannot be written, or the disk is full.
    """
    if out.is_dir():
        raise ExportError(f"{out}: is a folder; give the name of the file to write, e.g. {out / 'llmquiz.apkg'}")
    try:
        return _replaced(out, collection)
    except OSError as error:
        raise ExportError(f"{out}: {_problem(error, out)}") from error


def _replaced(out: Path, collection: bytes) -> int:
    handle, name = tempfile.mkstemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            with zipfile.ZipFile(file, "w") as package:
                package.writestr(_entry("collection.anki21"), collection, compresslevel=_LEVEL)
                package.writestr(_entry("media"), b"{}")
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


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
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
    if isinstance(error, FileNotFoundError):
        return f"there is no folder {out.parent}; make it or choose another with -o"
    return f"cannot be written: {(error.strerror or str(error)).lower()}"
