"""A SQLite file that nobody vouches for: which statements are safe to run on it, and how long they may take.

A schema is code. A view in place of a table, a generated column or a CHECK runs at every SELECT; an index may order
rows wrongly; and a B-tree whose pages point to one page many times has more rows than there are atoms. So only plain
tables are read, without their indexes, after `quick_check` walked each one, and the steps of all reading are counted.
Advice: https://sqlite.org/security.html
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from llmquiz.anki.archive import names
from llmquiz.core.errors import ImportFileError

_SQL_BYTES = 1 << 20
_MOST_OBJECTS = 1000
_MOST_PROBLEM = 100
_PRAGMAS = ("trusted_schema = OFF", "query_only = ON", "cell_size_check = ON", "ignore_check_constraints = ON")
_STEPS = 1_000_000
"""Instructions of SQLite's machine between two looks at the count; reading a collection takes 1.2 per byte."""
_LEAST_STEPS, _STEPS_PER_BYTE = 5_000_000, 40
_PLAIN = 0
"""`hidden` of a column that is neither generated nor of a virtual table."""
_MEND = "in Anki, use Tools > Check Database and export it again"


class Database:
    """A database opened to read plain tables from it."""

    def __init__(self, connection: sqlite3.Connection, error: Callable[[str], ImportFileError]) -> None:
        self._connection = connection
        self.error = error

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of a query; integers may be of any size, and a column of any type.

        Raises:
            ImportFileError: if the file is damaged, or no such database.
        """
        try:
            # `yield from` would close the cursor of a reader that stops early, perhaps after the connection.
            for row in self._connection.execute(sql, parameters):  # noqa: UP028
                yield row
        except sqlite3.DataError as error:
            raise self.error(f"a row of the collection is too long ({error}; limits.field_kb)") from error
        except sqlite3.OperationalError as error:
            endless = error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT
            raise self.damaged("it never ends" if endless else str(error).lower()) from error
        except sqlite3.Error as error:
            raise self.damaged(str(error).lower()) from error
        except UnicodeDecodeError as error:  # from the words of SQLite, which quotes from the file
            raise self.damaged("its schema is no text") from error

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """The first row of a query."""
        return next(self.rows(sql, parameters), None)

    def damaged(self, problem: str) -> ImportFileError:
        # SQLite quotes from the file, controls and all.
        return self.error(f"the collection is damaged ({names.clean(problem)[:_MOST_PROBLEM]}); {_MEND}")

    def check(self, tables: Sequence[str]) -> None:
        """Refuse a database that lacks one of `tables`, or whose table is no plain and whole one.

        Raises:
            ImportFileError: if so.
        """
        found = dict(
            self.rows("SELECT name, type || ' ' || (rootpage > 0) FROM sqlite_master LIMIT ?", (_MOST_OBJECTS,))
        )
        for table in tables:
            if table not in found:
                raise self.damaged(f"there is no table '{table}'")
            if found[table] != "table 1":
                raise self.damaged(f"'{table}' is no plain table")
            if any(column[6] != _PLAIN for column in self.rows(f"PRAGMA table_xinfo({table})")):
                raise self.damaged(f"'{table}' has computed columns")
            verdict = self.row(f"PRAGMA quick_check({table})")
            if verdict != ("ok",):
                raise self.damaged(f"'{table}' is not whole")


@contextmanager
def database(path: Path, error: Callable[[str], ImportFileError], *, row_bytes: int) -> Iterator[Database]:
    """Open the file at `path` for reading; it is taken to be whole, without a journal beside it.

    Args:
        row_bytes: the most that a row may have.

    Raises:
        ImportFileError: made by `error`, if it is no SQLite database.
    """
    budget = _LEAST_STEPS + _STEPS_PER_BYTE * path.stat().st_size

    def spend() -> bool:
        nonlocal budget
        budget -= _STEPS
        return budget < 0

    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        connection.set_progress_handler(spend, _STEPS)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, row_bytes)
        connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, _SQL_BYTES)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        connection.text_factory = _text
        connection.create_collation("unicase", _unicase)
        opened = Database(connection, error)
        for pragma in _PRAGMAS:
            opened.row(f"PRAGMA {pragma}")
        yield opened


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _unicase(one: str, other: str) -> int:
    """Anki's collation by name; nothing is looked up or ordered by it here."""
    one, other = one.casefold(), other.casefold()
    return (one > other) - (one < other)
