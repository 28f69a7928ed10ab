"""Copies of the database in a `backups` folder beside it, made by SQLite's own backup so that they are whole."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

from llmquiz.core.errors import StoreError

KEPT = 10


def folder(path: Path) -> Path:
    """Where the backups of the database at `path` lie."""
    return path.parent / "backups"


def newest(path: Path) -> Path | None:
    """The youngest backup of the database at `path`; None if there is none."""
    found = _all(path)
    return found[-1] if found else None


def make(connection: sqlite3.Connection, path: Path, *, label: str = "", now: float | None = None) -> Path:
    """Copy the database; the copy has its final name only once it is whole. The oldest beyond `KEPT` are removed.

    Raises:
        StoreError: if the folder cannot be written or the disk is full.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    target = folder(path) / f"{path.stem}-{stamp}{'-' + label if label else ''}.db"
    part = target.with_suffix(".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy(connection, part)
        part.replace(target)
    except (OSError, sqlite3.Error) as error:
        part.unlink(missing_ok=True)
        raise StoreError(f"{target}: backup cannot be written: {str(error).lower()}; nothing was changed") from error
    for old in _all(path)[:-KEPT]:
        old.unlink(missing_ok=True)
    return target


def _copy(connection: sqlite3.Connection, part: Path) -> None:
    copy = sqlite3.connect(part)
    try:
        connection.backup(copy)
    finally:
        copy.close()
    with part.open("rb") as file:
        os.fsync(file.fileno())


def _all(path: Path) -> list[Path]:
    return sorted(folder(path).glob(f"{path.stem}-*.db"), key=lambda file: file.name)
