"""Where an export goes: written beside its place and moved there when whole, so that no half of one is ever found."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from llmquiz.core.errors import ExportError


@contextmanager
def new_file(out: Path, example: str) -> Iterator[BinaryIO]:
    """The file `out`, to be written; one that is there already is replaced at the end, or kept whole on any error.

    Args:
        example: a good name, told to who gives a folder.

    Raises:
        ExportError: if `out` is a folder, or cannot be written, or the disk is full.
    """
    if out.is_dir():
        raise ExportError(f"{out}: is a folder; give the name of the file to write, e.g. {out / example}")
    with _told(out):
        handle, name = tempfile.mkstemp(prefix=f".{out.name[:40]}.", suffix=".part", dir=out.parent)
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.chmod(0o666 & ~_umask())
            part.replace(out)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to fill that becomes `out` at the end, or nothing on any error.

    Raises:
        ExportError: if `out` holds anything, or cannot be written, or the disk is full.
    """
    with _told(out):
        exists = out.is_dir()
        if exists and any(out.iterdir()):
            raise ExportError(f"{out}: is not empty; choose a new folder with -o")
        if not exists and (out.exists() or out.is_symlink()):
            raise ExportError(f"{out}: is a file; choose a new folder with -o")
        # In an empty folder, which may be a disk of its own, the parts are made inside and moved up one by one.
        part = Path(tempfile.mkdtemp(prefix=".llmquiz-", suffix=".part", dir=out if exists else out.parent))
        try:
            yield part
            _move(part, out, exists)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


def size(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _move(part: Path, out: Path, exists: bool) -> None:
    if not exists:
        part.chmod(0o777 & ~_umask())
        part.rename(out)
        return
    for child in sorted(part.iterdir()):
        child.rename(out / child.name)
    part.rmdir()


@contextmanager
def _told(out: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ExportError(f"{out}: {_problem(error, out)}") from error


def _problem(error: OSError, out: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space or choose another folder with -o"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"the folder {out.parent} cannot be written; choose another with -o"
    if isinstance(error, FileNotFoundError) and not out.parent.is_dir():
        return f"there is no folder {out.parent}; make it or choose another with -o"
    return f"cannot be written: {(error.strerror or str(error)).lower()}"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
