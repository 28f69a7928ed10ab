"""Copies of the database in a `backups` folder beside it, made by SQLite's own backup so that they are whole.

A copy is made before every migration and restore, once on each day that something changed, and when asked for. They
are thinned as they age: the newest five stay, of the last two weeks one a day, of the last two months one a week, of
the last year one a month.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, count
from pathlib import Path

from llmquiz.core.errors import StoreError

NEWEST, DAYS, WEEKS, MONTHS = 5, 14, 8, 12  # how many of each are kept
STALE_PART = timedelta(hours=1)  # an unfinished copy so old is of a process that died
_FORMAT = "%Y%m%d-%H%M%S"
_NAME = re.compile(r"(?P<stem>.+)-(?P<stamp>\d{8}-\d{6})(?:-(?P<label>[a-z0-9-]+))?\.db")


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy, when it was made (local time), and what for."""

    path: Path
    at: datetime
    label: str


def folder(path: Path) -> Path:
    """Where the backups of the database at `path` lie."""
    return path.parent / "backups"


def listing(path: Path) -> list[Backup]:
    """The backups of the database at `path`, oldest first."""
    found = []
    for file in folder(path).glob(f"{path.stem}-*.db"):
        if (match := _NAME.fullmatch(file.name)) and match["stem"] == path.stem:
            try:
                found.append(Backup(file, datetime.strptime(match["stamp"], _FORMAT), match["label"] or ""))
            except ValueError:  # digits, but no date
                continue
    return sorted(found, key=lambda one: (one.at, one.path.stat().st_mtime_ns))


def newest(path: Path) -> Path | None:
    """The youngest backup of the database at `path`; None if there is none."""
    found = listing(path)
    return found[-1].path if found else None


def due(path: Path, *, now: float | None = None) -> bool:
    """Whether the database has changed, and has no backup of today yet."""
    found = listing(path)
    if not found:
        return path.is_file()
    if found[-1].at.date() >= datetime.fromtimestamp(time.time() if now is None else now).date():
        return False
    changed = max(file.stat().st_mtime for file in (path, path.with_name(path.name + "-wal")) if file.exists())
    return changed > found[-1].path.stat().st_mtime


def make(connection: sqlite3.Connection, path: Path, *, label: str = "", now: float | None = None) -> Path:
    """Copy the database; the copy has its final name only once it is whole. Older ones are thinned.

    Raises:
        StoreError: if the folder cannot be written or the disk is full.
    """
    target = _free_name(path, label, now)
    part = target.with_suffix(f".{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy(connection, part)
        part.replace(target)
    except (OSError, sqlite3.Error) as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise StoreError(f"{target}: backup cannot be written: {str(error).lower()}; nothing was changed") from error
    thin(path)
    return target


def thin(path: Path) -> None:
    """Remove backups that are no longer worth their place, and unfinished ones of processes that died."""
    found = listing(path)
    keep = kept([one.at for one in found])
    for number, one in enumerate(found):
        if number not in keep:
            one.path.unlink(missing_ok=True)
    oldest = time.time() - STALE_PART.total_seconds()
    for part in folder(path).glob(f"{path.stem}-*.part"):
        if part.stat().st_mtime < oldest:
            part.unlink(missing_ok=True)


def kept(times: Sequence[datetime]) -> set[int]:
    """Which of the backups, oldest first, are kept: the newest ones, and the last of each day, week and month.

    Ages count from the newest, so that a collection that rests for a year loses nothing.
    """
    chosen = set(range(len(times))[-NEWEST:])
    for periods, name in (
        (DAYS, [at.date().toordinal() for at in times]),
        (WEEKS, [at.date().toordinal() // 7 for at in times]),
        (MONTHS, [12 * at.year + at.month for at in times]),
    ):
        last = {period: number for number, period in enumerate(name)}
        chosen |= {number for period, number in last.items() if period > name[-1] - periods}
    return chosen


def restore(source: Path, path: Path) -> None:
    """Give the database at `path` the content of `source`, in one transaction: killed at any moment, it is the old one
    or the new one.

    Raises:
        StoreError: if another process has the database open, or it cannot be written.
    """
    try:
        copy = sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)
        target = sqlite3.connect(path, isolation_level=None, timeout=2)
        try:
            # Leaving WAL needs the file for oneself; in WAL a copy with other pages would be refused, too.
            if target.execute("PRAGMA journal_mode = DELETE").fetchone()[0] != "delete":
                raise StoreError(f"{path}: is in use by another llmquiz; close it, then try again")
            copy.backup(target)
            target.execute("PRAGMA journal_mode = WAL")
        finally:
            target.close()
            copy.close()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise StoreError(f"{path}: is in use by another llmquiz; close it, then try again") from error
        raise StoreError(f"{path}: cannot be restored: {str(error).lower()}; nothing was changed") from error
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path}: cannot be restored: {str(error).lower()}; nothing was changed") from error


def set_aside(paths: Iterable[Path], *, now: float | None = None) -> list[Path]:
    """Rename files that cannot be used, so that nothing is lost; their new places."""
    stamp = time.strftime(_FORMAT, time.localtime(now))
    moved = []
    for path in paths:
        if path.exists():
            moved.append(path.rename(path.with_name(f"{path.name}.damaged-{stamp}")))
    return moved


def _free_name(path: Path, label: str, now: float | None) -> Path:
    """Two within a second get names of their own."""
    name = f"{path.stem}-{time.strftime(_FORMAT, time.localtime(now))}{'-' + label if label else ''}"
    names = chain((name,), (f"{name}-{number}" for number in count(2)))
    return next(file for file in (folder(path) / f"{name}.db" for name in names) if not file.exists())


def _copy(connection: sqlite3.Connection, part: Path) -> None:
    copy = sqlite3.connect(part)
    try:
        connection.backup(copy)
    finally:
        copy.close()
    with part.open("rb") as file:
        os.fsync(file.fileno())
