"""Opening the file: pragmas, schema version, and SQLite's errors as one line that says what to do.

`import sqlite_utils` costs a quarter of a second, more than all the rest of a start. So the connection is opened by
the standard library, and `sqlite_utils` is imported only where the schema is behind or someone asks for `Store.db`.

On a local disk the database keeps a write-ahead log, so that a session is never kept from answering by a backup; on a
network folder a rollback journal (see `llmquiz.store.filesystem`). Either way a commit returns when it is on disk.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import random
from typing import Any

from llmquiz.core.errors import StoreError
from llmquiz.store import backup, filesystem
from llmquiz.store.migrations import APPLICATION_ID, LATEST, apply

BUSY_TIMEOUT_MS = 5000
_PAUSE = 0.04  # seconds at most between two tries
_OLDEST_SQLITE = (3, 37, 0)
_CACHE_KIB = 32 * 1024
_PAGE_BYTES = 2048
_WAL_VERSIONS = b"\2\2"  # of writer and reader, at byte 18 of a database that keeps a write-ahead log
_SYNCHRONOUS = {"wal": "FULL", "delete": "EXTRA"}  # with a journal, its removal is the commit: the folder is synced too

# What this connection did, and as its least row the last action before it: others' actions are not ours to undo.
_OWN_ACTIONS = (
    "CREATE TEMP TABLE own_action (id INTEGER PRIMARY KEY)",
    "INSERT INTO own_action SELECT coalesce(max(id), 0) FROM action",
    """CREATE TEMP TRIGGER note_own_action AFTER INSERT ON main.action
    BEGIN INSERT INTO own_action VALUES (new.id); END""",
)


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection to the database at `path`, made and migrated where needed; statements commit outside of `BEGIN`.

    Raises:
        StoreError: if the folder or the file cannot be used, is damaged, or was written by a newer llmquiz.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise StoreError(f"sqlite {sqlite3.sqlite_version} is too old; install a Python whose sqlite is 3.37 or newer")
    with explained(path):
        connection = _open_reader(path) if read_only else _open_writer(path)
        try:
            _use(connection, path, read_only=read_only)
        except BaseException:
            connection.close()
            raise
    return connection


def is_own(connection: sqlite3.Connection, action: int) -> bool:
    """Whether an action was done through this connection, or before it was opened; else another llmquiz did it."""
    sql = "SELECT ?1 IN (SELECT id FROM own_action) OR ?1 < (SELECT min(id) FROM own_action)"
    return bool(connection.execute(sql, (action,)).fetchone()[0])


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns an error of SQLite into a `StoreError` about the database at `path`."""
    try:
        yield
    except sqlite3.Error as error:
        raise explain(error, path) from error


def explain(error: sqlite3.Error, path: Path) -> StoreError:
    """What went wrong with the database at `path`, and the next step."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
        if not filesystem.locks_work(path.parent):
            return StoreError(f"{path}: cannot be locked: its file system has no locks; move LLMQUIZ_HOME to another")
        return StoreError(f"{path}: database is locked by another llmquiz; close it or wait, then try again")
    if code == sqlite3.SQLITE_FULL:
        return StoreError(f"{path}: disk is full, the last change was not saved; free some space, then try again")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return StoreError(f"{path}: cannot be written; make the file and its folder writable, then try again")
    if code == sqlite3.SQLITE_CANTOPEN:
        return StoreError(f"{path}: cannot be opened; check that its folder exists and may be read and written")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreError(f"{path}: is damaged or not a database ({error}); {_rescue(path)}")
    if code == sqlite3.SQLITE_IOERR:
        return StoreError(f"{path}: cannot be read or written ({error}); check disk, quota and mount, then try again")
    return StoreError(f"{path}: {str(error).lower()}")


def _rescue(path: Path) -> str:
    newest = backup.newest(path)
    if newest is None:
        return "there is no backup; move the file away to start anew, it is left as it is"
    return f"`llmquiz restore` brings back the newest backup, {newest}; it is left as it is"


def _open_writer(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{path.parent}: cannot be made: {_reason(error)}; choose another LLMQUIZ_HOME") from error
    if path.is_dir():
        raise StoreError(f"{path}: is a folder, not a database; move it away")
    if filesystem.journal_mode(path) == "delete" and _keeps_log(path):
        _patiently(lambda: _leave_log(path))
    return sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000, check_same_thread=False)


def _patiently(change: Callable[[], Any]) -> Any:
    """What `change` returns, tried again while others are in its way: SQLite does not wait where two could for ever."""
    end = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            return change()
        except sqlite3.OperationalError as error:
            if time.monotonic() > end or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(random() * _PAUSE)


def _keeps_log(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(20)[18:] == _WAL_VERSIONS
    except OSError:
        return False  # SQLite will say what is wrong


def _leave_log(path: Path) -> None:
    """A database that was moved to a network folder: alone with it, SQLite reads its log without shared memory."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = DELETE")


def _open_reader(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise StoreError(f"{path}: there is no database yet; start `llmquiz study` once")
    from urllib.parse import quote

    uri = f"file:{quote(str(path.absolute()))}"
    # A journal is of a process that died within a change: SQLite takes that back, for which it has to write.
    connection = _reader(f"{uri}?mode={'rw' if _holds(path, '-journal') else 'ro'}")
    try:
        connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        # In a folder without write permission, a database that keeps a log opens only if SQLite may assume that nobody
        # writes; it would then overlook what a log or a journal holds.
        refused = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
        if not refused or _holds(path, "-wal") or _holds(path, "-journal"):
            raise
        connection = _reader(f"{uri}?mode=ro&immutable=1")
    return connection


def _holds(path: Path, ending: str) -> bool:
    beside = path.with_name(path.name + ending)
    return beside.is_file() and beside.stat().st_size > 0


def _reader(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000, check_same_thread=False)


def _use(connection: sqlite3.Connection, path: Path, *, read_only: bool) -> None:
    version = _version(connection)
    _check_owner(connection, path, version)
    if version > LATEST:
        raise StoreError(
            f"{path}: was written by a newer llmquiz (schema {version}, this one knows {LATEST}); update llmquiz"
        )
    if read_only and version < LATEST:
        raise StoreError(f"{path}: has the older schema {version}; start `llmquiz study` once to bring it to {LATEST}")
    if not read_only:
        # Heeded by a new file alone. An answer changes a row in each of six pages or so, and the log holds whole pages.
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        _set_journal(connection, filesystem.journal_mode(path))
        connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    if version < LATEST:
        _migrate(connection, path)
    if not read_only:
        for statement in _OWN_ACTIONS:
            connection.execute(statement)


def _set_journal(connection: sqlite3.Connection, wanted: str) -> None:
    mode = _patiently(lambda: connection.execute(f"PRAGMA journal_mode = {wanted}").fetchone()[0])
    connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS.get(mode, 'EXTRA')}")


def _check_owner(connection: sqlite3.Connection, path: Path, version: int) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID:
        return
    empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if version or not empty:
        raise StoreError(f"{path}: is a database of another program; move it away or choose another LLMQUIZ_HOME")


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    if version := _version(connection):
        backup.make(connection, path, label=f"schema-{version}")
    from sqlite_utils import Database

    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have migrated while this one waited for the lock; `apply` reads the version anew.
        if _version(connection) < LATEST:
            apply(Database(connection))
        connection.execute("COMMIT")
    except BaseException:
        # SQLite rolls back by itself after some errors, a full disk among them.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
