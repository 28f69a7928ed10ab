"""What a search finds in imported notes; the index of them is made when they are first searched.

It is the dearest part of an import by far, and nobody waits for it there. A back mostly repeats its front, a reversed
card its sibling, and of a cloze note each face shows all of the text: so each line is indexed once. Written out, the
index would take several times as long to make, for nothing more to be found.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable
from typing import Any

from llmquiz.core.card import Kind
from llmquiz.store.search import index_rows

_PENDING = "not indexed"
"""In `meta`: JSON of first and last numbers of cards that wait."""

_BLANK = re.compile(r"\[[^\]]*\]")  # what a cloze asks for
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
        connection.execute("DELETE FROM card_text WHERE rowid BETWEEN ? AND ?", (first, last))
        at: int | None = first
        while at is not None:
            at = _index(connection, at, last)
    connection.execute("DELETE FROM meta WHERE key = ?", (_PENDING,))


def _index(connection: sqlite3.Connection, first: int, last: int) -> int | None:
    """Index some cards; returns where to go on. Rows are read before any is written: a statement that is open beside
    makes the index half as slow again.
    """
    sql = "SELECT number, kind, content FROM card WHERE number BETWEEN ? AND ? ORDER BY number LIMIT ?"
    rows = connection.execute(sql, (first, last, _CHUNK)).fetchall()
    notes = [_entry(number, json.loads(content)) for number, kind, content in rows if kind == Kind.NOTE]
    connection.executemany("INSERT INTO card_text (rowid, en, zh, facts) VALUES (?, ?, ?, ?)", notes)
    index_rows(connection, [(number, content) for number, kind, content in rows if kind != Kind.NOTE])
    return rows[-1][0] + 1 if rows else None


def _entry(number: int, card: dict[str, Any]) -> tuple[int, str, str, str]:
    facts = " ".join((card["id"], card["topic"], *card.get("tags", ())))
    texts = card["texts"]
    return number, _words(texts.get("en")), _words(texts.get("zh")), facts


def _words(text: dict[str, Any] | None) -> str:
    if text is None:
        return ""
    faces = text.get("faces", ())
    backs = "\n".join({line: None for face in faces for line in _lines(face[2])})
    fronts = {line: None for face in faces for line in _lines(face[1]) if not _is_within(line, backs)}
    return "\n".join((*fronts, backs))


def _lines(side: str) -> list[str]:
    return side.replace("**", "").split("\n")


def _is_within(line: str, text: str) -> bool:
    return line in text or ("[" in line and all(piece.strip() in text for piece in _BLANK.split(line)))
