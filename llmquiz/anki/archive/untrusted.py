"""A SQLite file that nobody vouches for: which statements are safe to run on it, and how long they may take.

A schema is code. A view in place of a table, a generated column or a CHECK runs at every SELECT; an index may order
rows wrongly; and a B-tree whose pages point to one page many times has more rows than there are atoms. So only plain
tables are read, without their indexes, and the steps of all reading are counted. `quick_check` walks each table before
anything of it is kept: of a small one before it is read, of a large one beside all other work; until then no more rows
are believed than the file has room for.
The file is attached as ``collection`` to a database of our own, which statements may fill from it; nothing can write
to the file itself. Advice: https://sqlite.org/security.html
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from llmquiz.anki.archive import names, space
from llmquiz.core.errors import ImportFileError

_SQL_BYTES = 1 << 20
_MOST_OBJECTS = 1000
_MOST_PROBLEM = 100
_PRAGMAS = (
    "trusted_schema = OFF",
    "cell_size_check = ON",
    "journal_mode = OFF",
    "synchronous = OFF",
    "main.page_size = 16384",
    "main.cache_size = -16000",
)
_STEPS = 1_000_000
"""The fewest instructions of SQLite's machine between two looks at the count."""
_LOOKS = 16
"""The most looks at it in honest work: each one stops the other threads of this program for a moment."""
_LEAST_STEPS, _STEPS_PER_BYTE = 5_000_000, 40
"""Reading a collection takes 1.2 instructions per byte, and filling a database from it not even five."""
_LEAST_ROW = 6
"""Bytes of a row that has nothing in it, and of the pointer to it."""
_PLAIN = 0
"""`hidden` of a column that is neither generated nor of a virtual table."""
_MEND = "in Anki, use Tools > Check Database and export it again"


class Database:
    """A database of our own, with another one attached to read plain tables from it.

    A table's name means ours if there is such a table, else that of the file.
    """

    def __init__(self, connection: sqlite3.Connection, error: Callable[[str], ImportFileError], *, size: int) -> None:
        """`size`: bytes of the file."""
        self._connection = connection
        self._most = size // _LEAST_ROW
        self._raised: Exception | None = None
        self.error = error

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of a query; integers may be of any size, and a column of any type.

        Raises:
            ImportFileError: if the file is damaged, or no such database.
        """
        with self._translated():
            # `yield from` would close the cursor of a reader that stops early, perhaps after the connection.
            for row in self._connection.execute(sql, parameters):  # noqa: UP028
                yield row

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """The first row of a query."""
        return next(self.rows(sql, parameters), None)

    def make(self, tables: Callable[[sqlite3.Connection], None]) -> None:
        """Let `tables` make tables of ours.

        Raises:
            ImportFileError: if there is no room for them.
        """
        with self._translated():
            tables(self._connection)

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement that writes to our own database; how many rows it wrote, -1 if it does not count them.

        Raises:
            ImportFileError: if the file is damaged, or there is no room for what it writes.
        """
        with self._translated(), closing(self._connection.execute(sql, parameters)) as cursor:
            return cursor.rowcount

    def run_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        """Run a statement once for each of `rows`, in one transaction; an error leaves our database unusable.

        Raises:
            ImportFileError: as `run`.
        """
        self.run("BEGIN")
        with self._translated(), closing(self._connection.executemany(sql, rows)) as cursor:
            count = cursor.rowcount
        self.run("COMMIT")
        return count

    def function(self, name: str, arity: int, function: Callable[..., Any]) -> None:
        """Let statements, but nothing in the file, call `function`, which gives the same for the same arguments.

        What it raises comes out of the statement.
        """

        def called(*arguments: Any) -> Any:
            try:
                return function(*arguments)
            except Exception as error:
                self._raised = error
                raise

        self._connection.create_function(name, arity, called, deterministic=True)

    def damaged(self, problem: str) -> ImportFileError:
        # SQLite quotes from the file, controls and all.
        return self.error(f"the collection is damaged ({names.clean(problem)[:_MOST_PROBLEM]}); {_MEND}")

    def check(self, tables: Sequence[str]) -> None:
        """Refuse a file that lacks one of `tables`, or whose table is no plain and whole one.

        Raises:
            ImportFileError: if so.
        """
        self.check_plain(tables)
        self.check_whole(tables)

    def check_plain(self, tables: Sequence[str]) -> None:
        """Refuse a file that lacks one of `tables`, or whose table is no plain one."""
        objects = "SELECT name, type || ' ' || (rootpage > 0) FROM collection.sqlite_master LIMIT ?"
        found = dict(self.rows(objects, (_MOST_OBJECTS,)))
        for table in tables:
            if table not in found:
                raise self.damaged(f"there is no table '{table}'")
            if found[table] != "table 1":
                raise self.damaged(f"'{table}' is no plain table")
            if any(column[6] != _PLAIN for column in self.rows(f"PRAGMA collection.table_xinfo({table})")):
                raise self.damaged(f"'{table}' has computed columns")

    def check_whole(self, tables: Sequence[str]) -> None:
        """Refuse a file where one of `tables` is not whole; a large one takes as long as reading it."""
        self.row("PRAGMA ignore_check_constraints = ON")  # those of the file; our own are for what we write
        for table in tables:
            if self.row(f"PRAGMA collection.quick_check({table})") != ("ok",):
                raise self._not_whole(table)
        self.row("PRAGMA ignore_check_constraints = OFF")

    def count(self, table: str) -> int:
        """The rows of a plain table; one with more of them than the file has room for is not whole."""
        rows = f"SELECT 1 FROM {table} NOT INDEXED LIMIT {self._most + 1}"
        (count,) = self.row(f"SELECT count(*) FROM ({rows})") or (0,)
        if count > self._most:
            raise self._not_whole(table)
        return int(count)

    def _not_whole(self, table: str) -> ImportFileError:
        return self.damaged(f"'{table}' is not whole")

    def interrupt(self) -> None:
        """Stop the statement that another thread runs, if there is one."""
        with suppress(sqlite3.ProgrammingError):  # it is closed by now
            self._connection.interrupt()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors of SQLite in words that say what is wrong with what."""
        try:
            yield
        except sqlite3.DataError as error:
            raise self.error(f"a row of the collection is too long ({error}; limits.field_kb)") from error
        except sqlite3.Error as error:
            if (raised := self._raised) is not None:
                self._raised = None
                raise raised from None
            if problem := space.lacking_database(error):
                raise self.error(problem) from error
            endless = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT
            problem = "it never ends" if endless else str(error).lower().partition(": file:")[0]  # the file is ours
            raise self.damaged(problem) from error
        except MemoryError as error:  # what SQLite makes of some sizes that cannot be
            raise self.damaged("it asks for more memory than there is") from error
        except UnicodeDecodeError as error:  # from the words of SQLite, which quotes from the file
            raise self.damaged("its schema is no text") from error


@contextmanager
def database(
    path: Path,
    error: Callable[[str], ImportFileError],
    *,
    row_bytes: int,
    scratch: Path | None = None,
    ours: Mapping[str, Path] | None = None,
) -> Iterator[Database]:
    """Open the file at `path` for reading; it is taken to be whole, without a journal beside it.

    Args:
        row_bytes: the most that a row may have.
        scratch: where to make our own database, which others may read once a statement has ended; None for one in
            memory.
        ours: more databases of our own, to be read, by the names that statements have for them.

    Raises:
        ImportFileError: made by `error`, if it is no SQLite database.
    """
    size = path.stat().st_size
    budget = _LEAST_STEPS + _STEPS_PER_BYTE * size
    steps = max(_STEPS, budget // _LOOKS)

    def spend() -> bool:
        nonlocal budget
        budget -= steps
        return budget < 0

    with closing(_connected(scratch, error)) as connection:
        connection.set_progress_handler(spend, steps)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, row_bytes)
        connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, _SQL_BYTES)
        connection.text_factory = _text
        connection.create_collation("unicase", _unicase)
        opened = Database(connection, error, size=size)
        for pragma in _PRAGMAS:
            opened.row(f"PRAGMA {pragma}")
        attached = {name: f"{file.resolve().as_uri()}?mode=ro" for name, file in (ours or {}).items()}
        attached["collection"] = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        for name, uri in attached.items():
            opened.run(f"ATTACH ? AS {name}", (uri,))
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, len(attached))
        yield opened


def _connected(scratch: Path | None, error: Callable[[str], ImportFileError]) -> sqlite3.Connection:
    name = f"{scratch.resolve().as_uri()}?mode=rwc" if scratch else ":memory:"
    try:
        return sqlite3.connect(name, uri=True, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as failed:
        raise error(space.lacking_database(failed) or str(failed).lower()) from failed


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _unicase(one: str, other: str) -> int:
    """Anki's collation by name; nothing is looked up or ordered by it here."""
    one, other = one.casefold(), other.casefold()
    return (one > other) - (one < other)
