"""Answers that are written while notes are still read: SQLite does the one and Python the other, so both go on at once.

The store's connection is lent to a thread for it. Nobody else uses it meanwhile: the notes that are read wait in
memory. That pays off where the store has nothing of other programs, so that a part's schedule is known by its rank (see
`llmquiz.store.staging`), before its note is. Should a part come to nothing after all, or have a schedule here already,
`llmquiz.store.intakelog` takes its answers back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import TypeAlias, TypeVar

from llmquiz.store.incoming import Staged
from llmquiz.store.intakelog import Log
from llmquiz.store.intakespace import Space
from llmquiz.store.staging import StagedNote

LOG_IS_STAGED = "log is staged"
"""Name of the thread that waits for it. It has nothing of the store's, and ends when the reader does."""
EARLY_ANSWERS = "early answers"
"""Name of the thread that writes them, which has the store's connection for itself."""

_Note = TypeVar("_Note", bound=StagedNote | None)
_Chunk: TypeAlias = Sequence[StagedNote]

_CHUNK = 500
_MOST_CHUNKS = 40
_MOST_CHARACTERS = 16_000_000
"""Of the notes that wait, in one to four bytes each."""
_PATIENCE = 0.02  # seconds between two attempts to stop the thread


def chunks(notes: Iterable[_Note]) -> Iterator[Sequence[_Note]]:
    """The notes, some hundreds at a time."""
    source = iter(notes)
    while chunk := list(islice(source, _CHUNK)):
        yield chunk


class Early:
    """Writes the answers of one import as soon as they are staged, in the transaction that the caller holds.

    Args:
        base: a part's schedule has this id and the part's rank.
    """

    def __init__(self, room: Space, staged: Staged, log: Log, base: int) -> None:
        self._room = room
        self._staged = staged
        self._log = log
        self._base = base
        self._path: Path | None = None
        self._stopped = False
        self._failure: BaseException | None = None

    def chunks(self) -> Iterator[_Chunk]:
        """The notes, some hundreds at a time. Whoever got some has the connection until asking for more.

        Raises:
            StoreError: if the answers cannot be written; and what reading the notes raises.
        """
        Thread(target=self._wait, name=LOG_IS_STAGED, daemon=True).start()
        source = chunks(self._staged.notes)
        for chunk in source:
            if self._path is None:
                yield chunk
                continue
            waiting = deque([chunk])
            self._write_while_reading(source, waiting)
            while waiting:
                yield waiting.popleft()
            break
        yield from source

    def _wait(self) -> None:
        with suppress(Exception):  # it is raised again where the log is asked for next
            self._path = self._staged.log()

    def _write_while_reading(self, source: Iterator[_Chunk], waiting: deque[_Chunk]) -> None:
        """Add to the notes that wait until the answers are written; no more than fit into memory."""
        thread = Thread(target=self._write, name=EARLY_ANSWERS)
        room = _MOST_CHARACTERS
        try:
            thread.start()
            while thread.is_alive() and room > 0 and len(waiting) < _MOST_CHUNKS:
                chunk = next(source, ())
                if not chunk:
                    break
                waiting.append(chunk)
                room -= sum(len(note.content) + len(note.anki[5] if note.anki else "") for note in chunk)
            thread.join()
        finally:
            self._stop(thread)
        if self._failure is not None:
            raise self._failure

    def _write(self) -> None:
        if self._path is None or self._stopped:
            return
        try:
            with self._room.moving():
                attach = self._room.attach
                self._log.take_early(attach(self._path), attach(self._staged.homes), self._base)
        except BaseException as failure:  # noqa: BLE001  # it is raised where the notes are asked for
            self._failure = failure

    def _stop(self, thread: Thread) -> None:
        """Nobody goes on before the thread has ended: what it wrote after a rollback would stay."""
        self._stopped = True
        while thread.is_alive():
            with suppress(KeyboardInterrupt):  # one is on its way
                self._room.connection.interrupt()
                thread.join(_PATIENCE)
