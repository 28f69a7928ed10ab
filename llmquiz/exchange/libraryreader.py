"""The form of a library's JSON, read part by part into an empty database and a folder for its files.

The database has the schema that the file was written with, so that an old file is checked by the rules of its time; the
migrations bring it up to date. References are checked when all tables are there, since a card may follow its review.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from llmquiz.exchange import libraryfiles
from llmquiz.exchange.libraryjson import FORMAT, VERSION, Check, Table, encoded, tables
from llmquiz.exchange.pulljson import Pull
from llmquiz.exchange.trust import RowError, Trust
from llmquiz.store import migrations
from llmquiz.store.search import index_all

if TYPE_CHECKING:
    from sqlite_utils import Database

_SETUP = "PRAGMA page_size = 2048; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -16384"
_MOST_FINDINGS = 20


@dataclass
class LibraryReader:
    """Reads one library.

    Args:
        connection: an empty database, to be filled.
        folder: gets the folders ``decks`` and ``media`` with the files.
        on_rows: is called now and then.

    Attributes:
        findings: what was changed to make it safe, a line each.
    """

    pull: Pull
    connection: sqlite3.Connection
    folder: Path
    on_rows: Callable[[], None]
    findings: list[str] = field(default_factory=list)
    check: Check = field(default_factory=Check)
    _unrendered: list[str] = field(default_factory=list)

    def read(self) -> None:
        """Fill database and folders.

        Raises:
            ImportFileError: if the file is not a library, is damaged, or breaks a rule of the store.
            sqlite3.Error: if the database cannot be written.
        """
        schema = self._head()
        self.connection.executescript(_SETUP)
        self.connection.execute("BEGIN")
        # A migration needs the connection alone; sqlite-utils would import pandas, if that is there: 80 MB.
        database = cast("Database", SimpleNamespace(conn=self.connection))
        migrations.apply(database, schema)
        total = self._tables()
        self._check_references()
        migrations.apply(database)
        self._check_faces()
        self._files()
        self._end(total)
        index_all(self.connection)
        self.connection.execute("COMMIT")

    def _head(self) -> int:
        pull = self.pull
        if pull.next() != "{":
            raise pull.error("is not a library; `llmquiz export json` writes one")
        pull.take("{")
        pull.named("format")
        if pull.value() != FORMAT:
            raise pull.error("is not a library; `llmquiz export json` writes one")
        version = self._number("version")
        if version != VERSION:
            raise pull.error(f"has version {version} of the format, this llmquiz reads {VERSION}; update llmquiz")
        schema = self._number("schema")
        if schema > migrations.LATEST:
            known = migrations.LATEST
            raise pull.error(
                f"was written by a newer llmquiz (schema {schema}, this one knows {known}); update llmquiz"
            )
        self.check.add([encoded([version, schema])])
        return schema

    def _number(self, key: str) -> int:
        self.pull.take(",")
        self.pull.named(key)
        value = self.pull.value()
        if type(value) is not int or value < 1:
            raise self.pull.error(f"'{key}' is not a number from 1 on")
        return value

    def _tables(self) -> int:
        pull, expected = self.pull, {table.name: table for table in tables(self.connection)}
        pull.take(",")
        pull.named("tables")
        pull.take("{")
        total, found = 0, set[str]()
        while pull.goes_on(not found, "}"):
            name = pull.key()
            pull.where = f"table '{name[:60]}'" if name.isprintable() else "a table"
            if name not in expected or name in found:
                raise pull.error("stands twice" if name in found else "is unknown")
            found.add(name)
            total += self._table(expected[name])
            pull.where = ""
        if missing := expected.keys() - found:
            raise pull.error(f"table '{min(missing)}' is missing")
        return total

    def _table(self, table: Table) -> int:
        pull = self.pull
        pull.take("{")
        pull.named("columns")
        names = pull.value()
        if not isinstance(names, list) or sorted(map(str, names)) != sorted(table.names):
            raise pull.error(f"has not the columns {', '.join(table.names)}")
        self.check.add([encoded([table.name, names])])
        pull.take(",")
        pull.named("rows")
        kinds = dict(table.columns)
        ordered = Table(table.name, tuple((name, kinds[name]) for name in names), table.keys)
        sql = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
        try:
            done = self.connection.executemany(sql, self._rows(ordered)).rowcount
        except (sqlite3.IntegrityError, sqlite3.DataError, OverflowError) as error:
            raise pull.error(str(error).lower()) from error
        pull.where = ""
        pull.take("}")
        return max(done, 0)

    def _rows(self, table: Table) -> Iterator[list[Any]]:
        pull = self.pull
        trust = Trust(table, self._spelled, self._unrendered.append)
        pull.take("[")
        for number in count(1):
            if not pull.goes_on(number == 1, "]"):
                return
            pull.where = f"table '{table.name}', row {number}"
            try:
                row = trust.row(pull.value())
                self.check.add([encoded(row)])
                yield trust.safe(row)
            except UnicodeEncodeError as error:
                raise pull.error("holds half a character") from error
            except RowError as error:
                raise pull.error(str(error)) from error
            if number % 1000 == 0:
                self.on_rows()

    def _spelled(self, column: str) -> None:
        if len(self.findings) < _MOST_FINDINGS:
            self.findings.append(f"{self.pull.where}: control characters in '{column}' are spelled out")

    def _check_references(self) -> None:
        broken = self.connection.execute("PRAGMA foreign_key_check").fetchone()
        if broken:
            table, row, parent, _ = broken
            raise self.pull.error(f"row {row} of table '{table}' belongs to one of '{parent}' that is not there")

    def _check_faces(self) -> None:
        """A note without faces must have the fields that they are made of."""
        for card_id in self._unrendered:
            if not self.connection.execute("SELECT 1 FROM anki_note WHERE card = ?", (card_id,)).fetchone():
                name = ascii(card_id)[:80]
                raise self.pull.error(
                    f"note {name} has no faces, and no fields in the table 'anki_note' to make them of"
                )

    def _files(self) -> None:
        pull = self.pull
        for key, read in (("decks", self._deck), ("media", self._media)):
            pull.take(",")
            pull.named(key)
            pull.take("[")
            (self.folder / key).mkdir()
            for number in count(1):
                if not pull.goes_on(number == 1, "]"):
                    break
                pull.where = f"{key}, entry {number}"
                read()
                self.on_rows()
            pull.where = ""

    def _deck(self) -> None:
        entry = self.pull.value()
        if not isinstance(entry, dict) or [*entry] != ["name", "text"] or not _all_text(entry.values()):
            raise self.pull.error("expected a name and a text")
        if not entry["name"].endswith((".en.md", ".zh.md")):
            raise self.pull.error("is not called as a deck file, <deck>.en.md or <deck>.zh.md")
        place = self._new("decks", entry["name"])
        try:
            self.check.add([encoded([entry["name"], entry["text"]])])
            place.write_bytes(entry["text"].encode("utf-8"))
        except UnicodeEncodeError as error:
            raise self.pull.error("holds half a character") from error

    def _media(self) -> None:
        pull = self.pull
        pull.take("{")
        values: list[Any] = []
        for key, kind in (("name", str), ("sha1", str), ("bytes", int)):
            if values:
                pull.take(",")
            pull.named(key)
            values.append(pull.value())
            if type(values[-1]) is not kind:
                raise pull.error(f"'{key}' is of the wrong type")
        name, sha1, size = values
        if not self.connection.execute("SELECT 1 FROM media WHERE name = ?", (name,)).fetchone():
            raise pull.error("is not in the table 'media'")
        place = self._new("media", name)
        self.check.add([encoded(values)])
        pull.take(",")
        pull.named("data")
        if _written(place, self._pieces()) != (sha1, size):
            raise pull.error("its data are not those that its fingerprint is of")
        pull.take("}")

    def _pieces(self) -> Iterator[bytes]:
        self.pull.take("[")
        for number in count(1):
            if not self.pull.goes_on(number == 1, "]"):
                return
            try:
                yield base64.b64decode(self.pull.value(), validate=True)
            except (binascii.Error, TypeError, ValueError) as error:
                raise self.pull.error("its data are not base64") from error

    def _new(self, kind: str, name: str) -> Path:
        """The place of a staged file of this name."""
        if problem := libraryfiles.name_problem(name):
            raise self.pull.error(f"name {ascii(name)[:80]} {problem}")
        place = self.folder / kind / name
        if place.exists():
            raise self.pull.error(f"name {ascii(name)[:80]} stands twice")
        return place

    def _end(self, total: int) -> None:
        pull = self.pull
        pull.take(",")
        pull.named("end")
        if pull.value() != {"rows": total, "check": self.check.hex}:
            raise pull.error("its fingerprint is of another content, so it was damaged or changed; export it again")
        pull.take("}")
        if pull.next():
            raise pull.error("goes on after its end")


def _written(place: Path, pieces: Iterator[bytes]) -> tuple[str, int]:
    found, size = hashlib.sha1(usedforsecurity=False), 0
    with place.open("wb") as file:
        for piece in pieces:
            found.update(piece)
            size += file.write(piece)
    return found.hexdigest(), size


def _all_text(values: Any) -> bool:
    return all(type(value) is str for value in values)
