"""Copies of the database in a `backups` folder beside it, made by SQLite's own backup so that they are whole.

A copy is made before every migration and restore, once on each day that something changed, and when asked for. They
are thinned as they age: the newest five stay, of the last two weeks one a day, of the last two months one a week, of
the last year one a month.

A name says when the machine believed that the copy was made. A copy of tomorrow is of a clock that was wrong: how old
it is nobody knows, so it stays, and neither ages the others nor stands for the copy of today.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, count
from pathlib import Path

from llmquiz.core.errors import StoreError

NEWEST, DAYS, WEEKS, MONTHS = 5, 14, 8, 12  # how many of each are kept
STALE_PART = timedelta(hours=1)  # an unfinished copy so old is of a process that died
_PATIENCE = 2.0  # seconds that a copy waits for a lock
_MOST_THINNED = 2  # at a time: an hour with the clock ten years ahead makes every copy old
_TRAVEL = timedelta(days=2)  # names are of local time: a flight may put one so far ahead
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
                one = Backup(file, datetime.strptime(match["stamp"], _FORMAT), match["label"] or "")
                found.append((one.at, file.stat().st_mtime_ns, one))
            except (ValueError, FileNotFoundError):  # digits, but no date; or thinned by another process just now
                continue
    return [one for _, _, one in sorted(found, key=lambda entry: entry[:2])]


def newest(path: Path) -> Path | None:
    """The youngest backup of the database at `path`, of tomorrow only if there is no other; None if there is none."""
    found = listing(path)
    past = [one for one in found if one.at <= datetime.now() + _TRAVEL]
    return (past or found)[-1].path if found else None


def due(path: Path, *, now: float | None = None) -> bool:
    """Whether the database has changed, and has no backup of today yet."""
    today = datetime.fromtimestamp(time.time() if now is None else now).date()
    found = [one for one in listing(path) if one.at.date() <= today]
    if not found:
        return path.is_file()
    if found[-1].at.date() == today:
        return False
    changed = [_changed(file) for file in (path, path.with_name(path.name + "-wal"))]
    return max(changed) > _changed(found[-1].path)


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:  # the log goes when the last process closes the database
        return 0.0


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
    with suppress(OSError):  # the copy is made; that an old one cannot be removed is no reason to fail
        thin(path, spared=target, now=now)
    return target


def thin(path: Path, *, spared: Path | None = None, now: float | None = None) -> None:
    """Remove backups that are no longer worth their place, and unfinished ones of processes that died."""
    found = listing(path)
    keep = kept([one.at for one in found], now=datetime.fromtimestamp(time.time() if now is None else now))
    surplus = [one.path for number, one in enumerate(found) if number not in keep and one.path != spared]
    for old in surplus[:_MOST_THINNED]:
        old.unlink(missing_ok=True)
    for part in folder(path).glob(f"{path.stem}-*.part*"):
        if abs(time.time() - _changed(part)) > STALE_PART.total_seconds():
            part.unlink(missing_ok=True)


def kept(times: Sequence[datetime], *, now: datetime | None = None) -> set[int]:
    """Which of the backups, oldest first, are kept: the newest ones, and the last of each day, week and month.

    Ages count from the newest, so that a collection that rests for a year loses nothing. Those later than `now` stay.
    """
    past = times if now is None else [at for at in times if at <= now + _TRAVEL]
    chosen = {*range(len(past))[-NEWEST:], *range(len(past), len(times))}
    for periods, name in (
        (DAYS, [at.date().toordinal() for at in past]),
        (WEEKS, [at.date().toordinal() // 7 for at in past]),
        (MONTHS, [12 * at.year + at.month for at in past]),
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
            # Leaving WAL needs the file for oneself; in WAL a copy with other pages would be refused, too. Whoever
            # opens it next goes back to WAL. On a network folder it never was: a session there sees what was restored.
            if target.execute("PRAGMA journal_mode = DELETE").fetchone()[0] != "delete":
                raise StoreError(f"{path}: is in use by another llmquiz; close it, then try again")
            target.execute("PRAGMA synchronous = EXTRA")
            copy.backup(target, progress=_impatient())
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
    return [path.rename(aside_name(path, stamp)) for path in paths if path.exists()]


def aside_name(path: Path, stamp: str | None = None) -> Path:
    """Where a damaged file is put, beside what was put there before."""
    name = f"{path.name}.damaged-{stamp or time.strftime(_FORMAT)}"
    names = chain((name,), (f"{name}-{number}" for number in count(2)))
    return next(file for file in map(path.with_name, names) if not file.exists())


def _free_name(path: Path, label: str, now: float | None) -> Path:
    """Two within a second get names of their own."""
    name = f"{path.stem}-{time.strftime(_FORMAT, time.localtime(now))}{'-' + label if label else ''}"
    names = chain((name,), (f"{name}-{number}" for number in count(2)))
    return next(file for file in (folder(path) / f"{name}.db" for name in names) if not file.exists())


def _impatient() -> Callable[[int, int, int], None]:
    """Ends a copy that waits for another's lock; Python by itself waits without end."""
    end = time.monotonic() + _PATIENCE

    def look(status: int, remaining: int, total: int) -> None:
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and time.monotonic() > end:
            raise sqlite3.OperationalError("database is locked")

    return look


def _copy(connection: sqlite3.Connection, part: Path) -> None:
    copy = sqlite3.connect(part)
    try:
        connection.backup(copy, progress=_impatient())
    finally:
        copy.close()
    with part.open("rb+") as file:  # Windows syncs only what may be written
        os.fsync(file.fileno())
