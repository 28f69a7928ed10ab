"""The whole library as one JSON file: every row of every table, the user's own decks and the media of imported notes.

It is written row by row, a line each, in the order of the keys, so two exports can be compared by `diff`, equal content
gives equal bytes, and a large library needs no more memory than a small one. The search index is left out, since it is
made from the cards. A fingerprint at the end tells a damaged file from a whole one.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from llmquiz import target
from llmquiz.core.errors import ExportError
from llmquiz.exchange import libraryfiles
from llmquiz.exchange.libraryfiles import Home, MediaFile

FORMAT = "llmquiz library"
VERSION = 1
PIECE = 48 << 10
"""Bytes of a media file on one line."""
_BATCH = 500  # rows
_DERIVED = ("card_text", "sqlite_")

Progress = Callable[[int], None]
_strict = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the store: its name, and name and type of each column; `keys` are the columns that order its rows."""

    name: str
    columns: tuple[tuple[str, str], ...]
    keys: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [name for name, _ in self.columns]


@dataclass(slots=True)
class LibraryReport:
    """What was written: rows of each table, files, bytes, and what had to be left out, a line each."""

    rows: dict[str, int] = field(default_factory=dict)
    decks: int = 0
    media: int = 0
    bytes: int = 0
    findings: list[str] = field(default_factory=list)


def tables(connection: sqlite3.Connection) -> list[Table]:
    """The tables of a database of ours whose rows are facts, parents before children."""
    names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY rowid").fetchall()
    found = []
    for (name,) in names:
        if not name.startswith(_DERIVED):
            columns = connection.execute("SELECT name, type, pk FROM pragma_table_info(?)", (name,)).fetchall()
            keys = tuple(column for column, _, pk in sorted(columns, key=lambda it: it[2]) if pk)
            found.append(Table(name, tuple((column, kind) for column, kind, _ in columns), keys))
    return found


def count(connection: sqlite3.Connection) -> int:
    """Rows of all tables, for a progress bar."""
    return sum(connection.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0] for table in tables(connection))


def encoded(values: Sequence[Any]) -> str:
    """A row as JSON; the same row gives the same text. Infinity, which JSON has no word for, is a number too large."""
    try:
        return _strict(values)
    except ValueError:
        return f"[{','.join(_number(value) for value in values)}]"


def export(
    connection: sqlite3.Connection,
    out: Path | BinaryIO,
    home: Home,
    *,
    with_media: bool = True,
    progress: Progress | None = None,
) -> LibraryReport:
    """Write all of the library to `out`, packed if its name ends in ``.gz``; one state, though others may be writing.

    Args:
        with_media: also the media files; without them only their names, sizes and fingerprints.
        progress: gets the number of rows written so far.

    Raises:
        ExportError: if `out` cannot be written, or the disk is full. What was there is left whole.
    """
    opened = target.new_file(out, "llmquiz.json") if isinstance(out, Path) else nullcontext(out)
    with snapshot(connection), opened as file, _packed(file, out) as body:
        writer = _Writer(body, progress or (lambda rows: None))
        writer.library(connection, home, with_media)
    if isinstance(out, Path):
        writer.report.bytes = out.stat().st_size
    return writer.report


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """One state of the database, although another llmquiz may be writing to it."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


@contextmanager
def _packed(file: BinaryIO, out: Path | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(out, Path) and out.suffix == ".gz":
        with gzip.GzipFile("", "wb", 6, file, mtime=0) as body:
            yield body  # type: ignore[misc]  # a GzipFile is written to like any other file
    else:
        yield file


class _Writer:
    def __init__(self, file: BinaryIO, progress: Progress) -> None:
        self.report = LibraryReport()
        self._file, self._progress, self._done = file, progress, 0
        self._check = Check()

    def library(self, connection: sqlite3.Connection, home: Home, with_media: bool) -> None:
        schema = connection.execute("PRAGMA user_version").fetchone()[0]
        self._check.add([encoded([VERSION, schema])])
        self._text(f'{{"format":{encoded_text(FORMAT)},"version":{VERSION},"schema":{schema},\n"tables":{{')
        for number, table in enumerate(tables(connection)):
            self._text(",\n" if number else "\n")
            self._table(connection, table)
        self._text('\n},\n"decks":[')
        self._decks(home.decks)
        self._text('\n],\n"media":[')
        if with_media and "media" in self.report.rows:
            self._media(connection, home.media)
        self._text(f'\n],\n"end":{{"rows":{sum(self.report.rows.values())},"check":"{self._check.hex}"}}}}\n')

    def _table(self, connection: sqlite3.Connection, table: Table) -> None:
        head = encoded([table.name, table.names])
        self._check.add([head])
        self._text(f'"{table.name}":{{"columns":{encoded(table.names)},"rows":[')
        rows = connection.execute(f"SELECT {', '.join(table.names)} FROM {table.name} ORDER BY {', '.join(table.keys)}")
        done = 0
        while batch := rows.fetchmany(_BATCH):
            lines = [encoded(row) for row in batch]
            self._check.add(lines)
            self._text((",\n" if done else "\n") + ",\n".join(lines))
            done += len(batch)
            self._done += len(batch)
            self._progress(self._done)
        self._text("\n]}")
        self.report.rows[table.name] = done

    def _decks(self, folder: Path) -> None:
        for name, text in libraryfiles.deck_texts(folder, self.report.findings):
            self._check.add([encoded([name, text])])
            self._text(("," if self.report.decks else "") + f'\n{{"name":{encoded_text(name)},"text":{_strict(text)}}}')
            self.report.decks += 1

    def _media(self, connection: sqlite3.Connection, folder: Path) -> None:
        names = [row[0] for row in connection.execute("SELECT name FROM media ORDER BY name")]
        for file in libraryfiles.media_files(folder, names, self.report.findings):
            self._check.add([encoded([file.name, file.sha1, file.bytes])])
            name = encoded_text(file.name)
            head = f'\n{{"name":{name},"sha1":"{file.sha1}","bytes":{file.bytes},"data":['
            self._text(("," if self.report.media else "") + head)
            self._pieces(file)
            self._text("\n]}")
            self.report.media += 1

    def _pieces(self, file: MediaFile) -> None:
        found = hashlib.sha1(usedforsecurity=False)
        with file.path.open("rb") as data:
            for number, piece in enumerate(iter(lambda: data.read(PIECE), b"")):
                found.update(piece)
                self._text((',\n"' if number else '\n"') + base64.b64encode(piece).decode("ascii") + '"')
        if found.hexdigest() != file.sha1:
            raise ExportError(f"{file.path}: was changed while it was read; export again")

    def _text(self, text: str) -> None:
        self._file.write(text.encode("utf-8"))


class Check:
    """A fingerprint of all that a library says, whatever the spaces between."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=16)

    def add(self, lines: Iterable[str]) -> None:
        """The next values, each as `encoded` gives it."""
        self._digest.update("".join(f"{line}\n" for line in lines).encode("utf-8"))

    @property
    def hex(self) -> str:
        """The fingerprint of everything so far."""
        return self._digest.hexdigest()


def encoded_text(text: str) -> str:
    """`text` as JSON."""
    return _strict(text)


def _number(value: Any) -> str:
    if isinstance(value, float) and math.isinf(value):
        return "1e999" if value > 0 else "-1e999"
    return _strict(value)
