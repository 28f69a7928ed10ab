"""What a reader does beside its main thread: SQLite lets other threads run while it works.

So a hundred thousand answers and cards are checked and copied while the main thread reads notes and the store writes
them, by a few statements over all rows where Python would take ten microseconds for each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any

from llmquiz.anki.archive.limits import Limits
from llmquiz.anki.archive.reading import row_bytes
from llmquiz.anki.archive.untrusted import Database, database
from llmquiz.core.errors import ImportFileError

_PATIENCE = 0.02  # seconds between two attempts to stop the thread


class Beside(ABC):
    """A database that a thread of its own fills from a collection. Start it, and close it in any case.

    Args:
        collection: the private copy of the SQLite file.
        error: makes the error from what is wrong.
        target: a file that is not there yet.
        ours: databases of our own that are read as well, by the names that statements have for them.
    """

    def __init__(
        self,
        collection: Path,
        error: Callable[[str], ImportFileError],
        limits: Limits,
        target: Path,
        ours: Mapping[str, Path] | None = None,
    ) -> None:
        self._collection = collection
        self._error = error
        self._limits = limits
        self._target = target
        self._ours = ours
        self._source: Database | None = None
        self._stopped = Event()
        self._failure: BaseException | None = None
        self._thread = Thread(target=self._work, name=target.stem)

    @abstractmethod
    def _fill(self, source: Database) -> None:
        """Fill our database, in the thread; `_run` the statements that take long."""

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def result(self) -> Path:
        """Wait until the database is filled, and closed; its path. Any thread may ask, and again.

        Raises:
            ImportFileError: if the file is damaged or passes the limits, or there is no room for the database.
        """
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self._target

    def close(self) -> None:
        """Stop the thread, should it still run, and wait for its end."""
        self._stopped.set()
        while self._thread.is_alive():
            if (source := self._source) is not None:
                source.interrupt()
            self._thread.join(_PATIENCE)

    def _run(self, source: Database, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement, unless nobody waits for it any more."""
        self._go_on()
        return source.run(sql, parameters)

    def _go_on(self) -> None:
        """Ask this from time to time, where no statement runs that could be stopped."""
        if self._stopped.is_set():
            raise self._error("the import was stopped")

    def _work(self) -> None:
        size = row_bytes(self._limits)
        try:
            with database(
                self._collection, self._error, row_bytes=size, scratch=self._target, ours=self._ours
            ) as source:
                self._source = source
                try:
                    self._fill(source)
                finally:
                    self._source = None
        except BaseException as failure:  # noqa: BLE001  # it is raised where the result is asked for
            self._failure = failure
