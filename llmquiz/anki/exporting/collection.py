"""The database inside an .apkg: Anki's schema 11, the newest one that every client and version of Anki reads."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

SCHEMA = """
CREATE TABLE package.col (
  id integer PRIMARY KEY, crt integer NOT NULL, mod integer NOT NULL, scm integer NOT NULL, ver integer NOT NULL,
  dty integer NOT NULL, usn integer NOT NULL, ls integer NOT NULL, conf text NOT NULL, models text NOT NULL,
  decks text NOT NULL, dconf text NOT NULL, tags text NOT NULL
);
CREATE TABLE package.notes (
  id integer PRIMARY KEY, guid text NOT NULL, mid integer NOT NULL, mod integer NOT NULL, usn integer NOT NULL,
  tags text NOT NULL, flds text NOT NULL, sfld integer NOT NULL, csum integer NOT NULL, flags integer NOT NULL,
  data text NOT NULL
);
CREATE TABLE package.cards (
  id integer PRIMARY KEY, nid integer NOT NULL, did integer NOT NULL, ord integer NOT NULL, mod integer NOT NULL,
  usn integer NOT NULL, type integer NOT NULL, queue integer NOT NULL, due integer NOT NULL, ivl integer NOT NULL,
  factor integer NOT NULL, reps integer NOT NULL, lapses integer NOT NULL, left integer NOT NULL, odue integer NOT NULL,
  odid integer NOT NULL, flags integer NOT NULL, data text NOT NULL
);
CREATE TABLE package.revlog (
  id integer PRIMARY KEY, cid integer NOT NULL, usn integer NOT NULL, ease integer NOT NULL, ivl integer NOT NULL,
  lastIvl integer NOT NULL, factor integer NOT NULL, time integer NOT NULL, type integer NOT NULL
);
CREATE TABLE package.graves (usn integer NOT NULL, oid integer NOT NULL, type integer NOT NULL);
"""
INDEXES = """
CREATE INDEX package.ix_cards_nid ON cards (nid);
CREATE INDEX package.ix_revlog_cid ON revlog (cid);
"""
"""Those that an import looks things up by; Anki's own collections have five more, for syncing and studying."""
_PAGE_BYTES = 16_384
"""Few notes fill a page of SQLite's usual 4 KiB well."""
NOTE = "INSERT INTO package.notes VALUES (?, ?, ?, ?, -1, ?, ?, ?, ?, 0, '')"
"""Id, guid, note type, mod, tags, fields, sort field, checksum."""
CARD = "INSERT INTO package.cards VALUES (?, ?, ?, ?, ?, -1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
"""Id, note, deck, ordinal, mod, then the columns of `llmquiz.anki.exporting.progress.CardState`; before the last two of
them what is due in the home deck, and that deck, if a filtered deck has the card."""
# The collection's time of change is that of its youngest note, so that equal content gives equal bytes.
_COL = """
    INSERT INTO package.col
    SELECT 1, ?, coalesce(max(mod), 0) * 1000, coalesce(max(mod), 0) * 1000, ?, 0, 0, 0, ?, ?, ?, ?, '{}'
    FROM package.notes
"""
_VERSION = 11
DEFAULT_ID = 1
"""Of the deck and of the preset that every collection has."""


@dataclass(frozen=True, slots=True)
class Head:
    """The single row of ``col``.

    Attributes:
        created_at: Unix seconds at which day 0 starts; `minutes_west`: how far west of UTC its clock was.
        models, decks, presets: their JSON entries, by id.
    """

    created_at: int
    minutes_west: int
    rollover_hour: int
    models: Mapping[int, Mapping[str, Any]]
    decks: Mapping[int, Mapping[str, Any]]
    presets: Mapping[int, Mapping[str, Any]]


@contextmanager
def attached(connection: sqlite3.Connection) -> Iterator[None]:
    """Give `connection` an empty database in memory beside its own, called ``package``; not within a transaction."""
    connection.execute("ATTACH ':memory:' AS package")
    try:
        connection.execute(f"PRAGMA package.page_size = {_PAGE_BYTES}")
        yield
    finally:
        connection.execute("DETACH package")


def create(connection: sqlite3.Connection) -> None:
    """Make the empty tables of ``package``."""
    for statement in _statements(SCHEMA):
        connection.execute(statement)


def finished(connection: sqlite3.Connection, head: Head) -> bytes:
    """The database file, once all rows are written."""
    connection.execute(_COL, _head_row(head))
    for statement in _statements(INDEXES):
        connection.execute(statement)
    return connection.serialize(name="package")


def _statements(script: str) -> Iterator[str]:
    return filter(str.strip, script.split(";"))


def _head_row(head: Head) -> tuple[Any, ...]:
    conf = {
        "schedVer": 2,
        "sched2021": True,
        "creationOffset": head.minutes_west,
        "localOffset": head.minutes_west,
        "rollover": head.rollover_hour,
        "activeDecks": [DEFAULT_ID],
        "curDeck": DEFAULT_ID,
        "nextPos": 1,
    }
    tables = (conf, head.models, head.decks, head.presets)
    return (head.created_at, _VERSION, *(json.dumps(table) for table in tables))


def deck(deck_id: int, name: str, *, preset: int = DEFAULT_ID, description: str = "") -> dict[str, Any]:
    """An entry of ``decks``."""
    today = {count: [0, 0] for count in ("lrnToday", "revToday", "newToday", "timeToday")}
    look = {"collapsed": False, "browserCollapsed": False, "dyn": 0, "extendNew": 0, "extendRev": 0}
    return {"id": deck_id, "mod": 0, "name": name, "usn": 0, "desc": description, "conf": preset, **today, **look}


def checksum(first_field: str) -> int:
    """Anki's fingerprint of a note's first field: the first 32 bits of its SHA-1."""
    return int.from_bytes(hashlib.sha1(first_field.encode(), usedforsecurity=False).digest()[:4])
