"""Room for one merge beside the database: a scratch schema in memory, and the databases that a reader has filled.

All are attached to the store's own connection, so that rows move by SQL, and detached at the end, whatever happens.
References are right by construction here, and a commit of a whole import need not also copy its log into the database:
both are switched off for the time of the merge.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from llmquiz.core.errors import StoreError

SCRATCH = "merging"
"""The schema in memory."""

_PRAGMAS = {"foreign_keys": 0, "wal_autocheckpoint": 0}
_UNREADABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)


class Space:
    """What is attached to the connection of one merge, and the path of its database `store`. Use `space`."""

    def __init__(self, connection: sqlite3.Connection, store: Path) -> None:
        self.connection = connection
        self.store = store
        self._attached: dict[Path, str] = {}

    def attach(self, path: Path) -> str:
        """The name of the schema under which the database `path`, that a reader has filled, can be read.

        Raises:
            StoreError: if it cannot be read.
        """
        if path in self._attached:
            return self._attached[path]
        schema = f"arriving_{len(self._attached)}"
        try:
            self.connection.execute(f"ATTACH ? AS {schema}", (str(path),))
            self._attached[path] = schema
            tables = self.connection.execute(f"SELECT count(*) FROM {schema}.sqlite_schema").fetchone()[0]
        except sqlite3.Error as error:
            raise _unreadable(path, str(error)) from error
        if not tables:
            raise _unreadable(path, "it is gone or empty")
        return schema

    @contextmanager
    def moving(self) -> Iterator[None]:
        """Tells an error about what is being moved from one that is the store's.

        Raises:
            StoreError: if rows do not fit the store, or one of the databases of a reader cannot be read any more.
        """
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise StoreError(
                f"{self.store}: rows that were read do not fit the database ({error}); nothing was imported;"
                " this is a fault of llmquiz: please report it, with the file if you can"
            ) from error
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _UNREADABLE:
                for path, schema in self._attached.items():
                    if problem := self._problem(schema):
                        raise _unreadable(path, problem) from error
            raise

    def _problem(self, schema: str) -> str:
        """What is wrong with a database; empty if nothing is."""
        try:
            found = str(self.connection.execute(f"PRAGMA {schema}.quick_check(1)").fetchone()[0])
        except sqlite3.Error as error:
            return str(error)
        return "" if found == "ok" else found.splitlines()[-1]

    def detach(self) -> None:
        """Let go of all databases of readers."""
        for schema in self._attached.values():
            self.connection.execute(f"DETACH {schema}")
        self._attached.clear()


@contextmanager
def space(connection: sqlite3.Connection, store: Path) -> Iterator[Space]:
    """Room for a merge into the database at `store`; to be made outside of its transaction, and left after it."""
    before = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in _PRAGMAS}
    attached = Space(connection, store)
    connection.execute(f"ATTACH ':memory:' AS {SCRATCH}")
    try:
        for name, value in _PRAGMAS.items():
            connection.execute(f"PRAGMA {name} = {value}")
        yield attached
    finally:
        for name, value in before.items():
            connection.execute(f"PRAGMA {name} = {value}")
        attached.detach()
        connection.execute(f"DETACH {SCRATCH}")


def fetch(
    connection: sqlite3.Connection, sql: str, values: Sequence[object] | Mapping[str, object] = ()
) -> list[tuple[Any, ...]]:
    """All rows of a query, which is then closed: one that stays open keeps its database attached."""
    with closing(connection.execute(sql, values)) as rows:
        return rows.fetchall()


def _unreadable(path: Path, problem: str) -> StoreError:
    return StoreError(
        f"{path}: temporary file cannot be read ({problem.lower()}); nothing was imported;"
        " see that the disk of the temporary folder is sound and has space, then try again"
    )
