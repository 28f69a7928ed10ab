"""What a search finds in imported notes; the index of them is made when they are first searched.

It is the dearest part of an import by far, and nobody waits for it there.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from llmquiz.store.search import EVERYTHING, index_between

_PENDING = "not indexed"
"""In `meta`: JSON of first and last numbers of cards that wait."""


def postpone(connection: sqlite3.Connection, new: range, changed: Iterable[int]) -> None:
    """Note the numbers of cards that the index lacks, or holds with an older text."""
    waiting = [*pending(connection), *((number, number) for number in changed)]
    if new:
        waiting.append((new[0], new[-1]))
    if waiting:
        connection.execute(
            "INSERT OR REPLACE INTO meta VALUES (?, ?)", (_PENDING, json.dumps([*dict.fromkeys(waiting)]))
        )


def pending(connection: sqlite3.Connection) -> list[tuple[int, int]]:
    """First and last numbers of cards that wait to be indexed; all of them, where a library brought what is no list."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (_PENDING,)).fetchone()
    try:
        waiting = [(first, last) for first, last in json.loads(row[0])] if row else []
        lowest, highest = EVERYTHING
        are_numbers = all(lowest <= number <= highest for pair in waiting for number in pair)
    except (ValueError, TypeError, RecursionError):
        return [EVERYTHING]
    return waiting if are_numbers else [EVERYTHING]


def catch_up(connection: sqlite3.Connection) -> None:
    """Index the cards that wait, in the transaction that the caller holds."""
    for first, last in pending(connection):
        index_between(connection, first, last)
    connection.execute("DELETE FROM meta WHERE key = ?", (_PENDING,))
