"""What a search finds in imported notes; the index of them is made when they are first searched.

It is the dearest part of an import by far, and nobody waits for it there.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from llmquiz.store.search import index_rows

_PENDING = "not indexed"
"""In `meta`: JSON of first and last numbers of cards that wait."""

_CHUNK = 1000


def postpone(connection: sqlite3.Connection, new: range, changed: Iterable[int]) -> None:
    """Note the numbers of cards that the index lacks, or holds with an older text."""
    waiting = [*pending(connection), *((number, number) for number in changed)]
    if new:
        waiting.append((new[0], new[-1]))
    if waiting:
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_PENDING, json.dumps(waiting)))


def pending(connection: sqlite3.Connection) -> list[tuple[int, int]]:
    """First and last numbers of cards that wait to be indexed."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (_PENDING,)).fetchone()
    return json.loads(row[0]) if row else []


def catch_up(connection: sqlite3.Connection) -> None:
    """Index the cards that wait, in the transaction that the caller holds."""
    for first, last in pending(connection):
        at: int | None = first
        while at is not None:
            at = _index(connection, at, last)
    connection.execute("DELETE FROM meta WHERE key = ?", (_PENDING,))


def _index(connection: sqlite3.Connection, first: int, last: int) -> int | None:
    """Index some cards; returns where to go on. Rows are read before any is written: a statement that is open beside
    makes the index half as slow again.
    """
    sql = "SELECT number, content FROM card WHERE number BETWEEN ? AND ? ORDER BY number LIMIT ?"
    rows = connection.execute(sql, (first, last, _CHUNK)).fetchall()
    index_rows(connection, rows)
    return rows[-1][0] + 1 if rows else None
