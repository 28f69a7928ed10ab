"""A library from its JSON file: read into a database of its own, checked there, and only then put in the place of ours.

Nothing of the user's is touched while the file is read, so whatever it holds can do no harm; the database takes the
new content in one transaction, after a backup. The preview that a user says yes to is thus of the very content that
goes in, also where the file is a pipe or has been changed since.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import BinaryIO

from llmquiz.anki.archive.limits import Limits
from llmquiz.core.errors import ImportFileError, StoreError
from llmquiz.deck.reading import printable
from llmquiz.exchange import libraryfiles
from llmquiz.exchange.libraryfiles import Home, Placing
from llmquiz.exchange.libraryjson import tables
from llmquiz.exchange.libraryreader import LibraryReader
from llmquiz.exchange.pulljson import Bytes, Pull
from llmquiz.store import backup, health
from llmquiz.store.database import explained

_PREFIX, _STALE = ".import-", 3600.0  # seconds; what is so old is of a process that died


@dataclass(frozen=True, slots=True)
class Arrived:
    """A library that was read and found whole; it waits beside the present one.

    Attributes:
        database: of the present schema.
        rows: how many each table has.
        files: deck and media files that differ from those in place.
        findings: what is not as the user may expect, a line each.
    """

    database: Path
    rows: dict[str, int]
    files: list[Placing]
    findings: list[str]


@contextmanager
def arrived(
    file: BinaryIO,
    name: str,
    home: Home,
    *,
    limits: Limits | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Arrived]:
    """Read the library `file`, which messages call `name`, into a folder beside the present database.

    Args:
        limits: of which `total_mb` and `ratio` count.
        progress: gets the number of bytes of the file read so far.

    Raises:
        ImportFileError: if it is not a library, is damaged, breaks a rule of the store or a bound.
    """
    parent = home.database.parent
    with ExitStack() as stack:
        with _told(parent):
            folder = Path(stack.enter_context(_staging(parent)))
            found = _read(file, name, home, folder, limits or Limits(), progress)
        yield found


def replace(new: Arrived, home: Home) -> tuple[list[Path], list[Path]]:
    """Put `new` in the place of the present library. Killed at any moment, the database is the old or the new one.

    Returns where the present database was copied to (several files if it was damaged, none if there was none), and the
    new names of deck and media files whose place was taken.

    Raises:
        StoreError: if the database is in use by another process or cannot be written; then nothing was changed.
    """
    before = _kept(home.database)
    backup.restore(new.database, home.database)
    try:
        # Last: if this dies before them, the cards have their history, and a second import brings the files.
        moved = [libraryfiles.put(file) for file in new.files]
    except OSError as error:
        raise StoreError(
            f"{error.filename}: cannot be written: {error.strerror}; mend that and import again"
        ) from error
    return before, [path for path in moved if path]


def row_counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Rows of each table."""
    return {
        table.name: connection.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0]
        for table in tables(connection)
    }


def _read(
    file: BinaryIO, name: str, home: Home, folder: Path, limits: Limits, progress: Callable[[int], None] | None
) -> Arrived:
    source = Bytes(file, name, limits)
    on_rows = (lambda: progress(source.position)) if progress else (lambda: None)
    database = folder / "library.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as connection, explained(home.database):
        reader = LibraryReader(Pull(source, name), connection, folder, on_rows)
        reader.read()
        rows = row_counts(connection)
        findings = reader.findings + _missing_media(connection, folder, home)
    return Arrived(database, rows, _placings(folder, home), findings + _other_decks(folder, home))


def _staging(home: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder for what is read, on the same disk as the library and gone at the end."""
    home.mkdir(parents=True, exist_ok=True)
    for old in home.glob(f"{_PREFIX}*"):
        if old.stat().st_mtime < time.time() - _STALE:
            rmtree(old, ignore_errors=True)
    return tempfile.TemporaryDirectory(prefix=_PREFIX, dir=home, ignore_cleanup_errors=True)


@contextmanager
def _told(home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ImportFileError(f"{home}: {(error.strerror or str(error)).lower()}; nothing was changed") from error


def _placings(folder: Path, home: Home) -> list[Placing]:
    wanted = [(folder / "media", home.media), (folder / "decks", home.decks)]
    found = [
        libraryfiles.placing(staged, place / staged.name)
        for source, place in wanted
        for staged in sorted(source.iterdir())
    ]
    return [one for one in found if one]


def _missing_media(connection: sqlite3.Connection, folder: Path, home: Home) -> list[str]:
    names = [row[0] for row in connection.execute("SELECT name FROM media")]
    missing = [
        name
        for name in names
        if not libraryfiles.name_problem(name)
        and not any((it / name).exists() for it in (folder / "media", home.media))
    ]
    return [f"{len(missing)} media files are not in the file, {printable(missing[0])} among them"] if missing else []


def _other_decks(folder: Path, home: Home) -> list[str]:
    brought = {path.name for path in (folder / "decks").iterdir()}
    there = [name for name, _ in libraryfiles.deck_texts(home.decks, [])]
    return [f"your deck file {printable(name)} is not in the file and stays" for name in there if name not in brought]


def _kept(path: Path) -> list[Path]:
    """A copy of the present database, or where it was set aside; nothing if there is none."""
    if not path.is_file():
        return []
    if health.inspect(path, thorough=False).problems:
        return backup.set_aside([path.with_name(path.name + end) for end in ("-wal", "-shm", "")])
    with closing(sqlite3.connect(path)) as connection:
        return [backup.make(connection, path, label="before-import")]
