"""Opening the file: pragmas, schema version, and SQLite's errors as one line that says what to do.

`import sqlite_utils` costs a quarter of a second, more than all the rest of a start. So the connection is opened by
the standard library, and `sqlite_utils` is imported only where the schema is behind or someone asks for `Store.db`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmquiz.core.errors import StoreError
from llmquiz.store import backup
from llmquiz.store.migrations import APPLICATION_ID, LATEST, apply

BUSY_TIMEOUT_MS = 5000
_OLDEST_SQLITE = (3, 37, 0)
_CACHE_KIB = 32 * 1024
_PAGE_BYTES = 2048


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
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
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
        return StoreError(f"{path}: cannot be read or written ({error}); check the disk, then try again")
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
    return sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000, check_same_thread=False)


def _open_reader(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise StoreError(f"{path}: there is no database yet; start `llmquiz study` once")
    from urllib.parse import quote

    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    connection = _reader(uri)
    try:
        connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
    except sqlite3.OperationalError:
        # A WAL database in a folder without write permission opens only if SQLite may assume that nobody writes to it.
        connection.close()
        connection = _reader(f"{uri}&immutable=1")
    return connection


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
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    if version < LATEST:
        _migrate(connection, path)


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
        connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
