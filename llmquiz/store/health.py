"""Whether a database is whole, what it holds, and how to mend one that is not.

Nothing is mended in place. What can still be read goes into a new file; the damaged one is set aside, never deleted.
Its place is taken in one transaction: killed at any moment, the database is the damaged one or the rebuilt one.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from llmquiz.core.errors import StoreError
from llmquiz.store import backup
from llmquiz.store.migrations import APPLICATION_ID, LATEST

_MOST_PROBLEMS = 20
_DERIVED = ("card_text",)  # made again from the cards, so never salvaged


@dataclass(frozen=True, slots=True)
class Health:
    """What was found in a database.

    Attributes:
        schema: its version; 0 if it could not be read.
        cards, reviews: rows; undone reviews count, for they are facts too.
        last_review_ms: Unix milliseconds of the last answer; None without one.
        problems: what is wrong, a line each; none if it is whole.
        journal: how changes are kept from being half done: ``wal`` or ``delete``.
    """

    size: int
    schema: int
    cards: int
    reviews: int
    last_review_ms: int | None
    problems: tuple[str, ...]
    journal: str = "delete"


def inspect(path: Path, *, thorough: bool = True) -> Health:
    """Read all of the database at `path` and check it; nothing is written.

    Args:
        thorough: compare every index with its table as well; else only that pages and rows can be read.

    Raises:
        StoreError: if there is no such file, or it belongs to another program.
    """
    if not path.is_file():
        raise StoreError(f"{path}: there is no such file")
    size = path.stat().st_size
    try:
        with closing(_reader(path)) as connection:
            return _inspect(connection, path, size, "integrity_check" if thorough else "quick_check")
    except sqlite3.DatabaseError as error:
        return Health(size, 0, 0, 0, None, (str(error),))


def repair(path: Path, *, now: float | None = None) -> tuple[Health, list[Path]]:
    """Rebuild the database at `path` from what can be read of it; the damaged files are set aside beside it.

    Returns what the new database holds, and where the old files are.

    Raises:
        StoreError: if another process has it open, nothing can be read, or the disk is full; then nothing is changed.
    """
    part = path.with_name(f"{path.name}.repaired")
    _remove((part, part.with_name(f"{part.name}-journal")))
    try:
        with closing(sqlite3.connect(path, timeout=2)) as damaged, closing(sqlite3.connect(part)) as new:
            _salvage(damaged, new)
        found = inspect(part)
        moved = _replace(path, part, now)
    except (sqlite3.DatabaseError, OSError) as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            raise StoreError(f"{path}: is in use by another llmquiz; close it, then try again") from error
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL or isinstance(error, OSError):
            raise StoreError(f"{path}: cannot be rebuilt ({error}); free some space, then try again") from error
        raise StoreError(f"{path}: nothing can be read ({error}); `llmquiz restore` brings back a backup") from error
    finally:
        part.unlink(missing_ok=True)
    return found, moved


def _replace(path: Path, rebuilt: Path, now: float | None) -> list[Path]:
    """Put `rebuilt` in the place of `path`; where the damaged files are now."""
    stamp = None if now is None else time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    there = [path.with_name(path.name + end) for end in ("-wal", "-journal", "")]
    copies = {file: backup.aside_name(file, stamp) for file in there if file.exists()}
    try:
        for file, copy in copies.items():
            shutil.copyfile(file, copy)
        backup.restore(rebuilt, path)
    except StoreError as error:
        if "in use" not in str(error) and isinstance(error.__cause__, sqlite3.DatabaseError):
            # Not even its first page can be read: no session has it open, and nothing can be written into it.
            for file in there[:-1]:
                file.unlink(missing_ok=True)
            rebuilt.replace(path)
            return list(copies.values())
        _remove(copies.values())
        raise
    except OSError:
        _remove(copies.values())
        raise
    return list(copies.values())


def _remove(files: Iterable[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)


def _inspect(connection: sqlite3.Connection, path: Path, size: int, check: str) -> Health:
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreError(f"{path}: is not a database of llmquiz")
    schema: int = connection.execute("PRAGMA user_version").fetchone()[0]
    problems = [row[0] for row in connection.execute(f"PRAGMA {check}({_MOST_PROBLEMS})") if row[0] != "ok"]
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check").fetchmany(_MOST_PROBLEMS):
        problems.append(f"row {row} of {table} belongs to a {parent} that is not there")
    if schema > LATEST:
        problems.append(f"schema {schema} is of a newer llmquiz, this one knows {LATEST}")
    cards = connection.execute("SELECT count(*) FROM card").fetchone()[0]
    reviews, last = 0, None
    if schema >= 2:
        reviews, last = connection.execute("SELECT count(*), max(id) FROM review").fetchone()
    journal = connection.execute("PRAGMA journal_mode").fetchone()[0]
    return Health(size, schema, cards, reviews, last, tuple(problems), journal)


def _salvage(damaged: sqlite3.Connection, new: sqlite3.Connection) -> None:
    """Tables in the order of their making, so that parents come before children; rows that cannot be read are left."""
    from sqlite_utils import Database

    from llmquiz.store import migrations

    if damaged.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise sqlite3.DatabaseError("no table of llmquiz is in it")
    damaged.execute("BEGIN IMMEDIATE")  # nobody writes meanwhile
    version = damaged.execute("PRAGMA user_version").fetchone()[0]
    database = Database(new)
    with new:
        migrations.apply(database, min(version, LATEST) or LATEST)
    with new:
        for table in _tables(new):
            columns = [row[1] for row in new.execute(f"PRAGMA table_info({table})")]
            marks = ", ".join("?" * len(columns))
            sql = f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})"
            new.executemany(sql, _rows(damaged, table, columns))
        if "card_text" in _names(new):
            from llmquiz.store.search import index_all

            index_all(new)


def _tables(connection: sqlite3.Connection) -> list[str]:
    return [name for name in _names(connection) if not name.startswith((*_DERIVED, "sqlite_"))]


def _names(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY rowid")]


def _rows(damaged: sqlite3.Connection, table: str, columns: list[str]) -> Iterator[tuple[object, ...]]:
    """Forwards to the first page that cannot be read, then backwards from the end to it."""
    select, read = f"SELECT rowid, {', '.join(columns)} FROM {table} WHERE rowid > ? ORDER BY rowid", -(2**63)
    try:
        for row in damaged.execute(select, (read,)):
            read = row[0]
            yield row[1:]
    except sqlite3.DatabaseError:
        with suppress(sqlite3.DatabaseError):
            for row in damaged.execute(f"{select} DESC", (read,)):
                yield row[1:]


def _reader(path: Path) -> sqlite3.Connection:
    """Read-only, unless a process died within a change: SQLite takes that back when the file is opened."""
    journal = path.with_name(f"{path.name}-journal")
    mode = "rw" if journal.is_file() and journal.stat().st_size else "ro"
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True)
