"""Finding cards by what they say, in either language, by id, topic or tag.

The index holds trigrams, so a term of one or two characters, common in Chinese, is looked for by scanning instead.
Terms are always taken literally: a search box is no place for the syntax of a query language. Of a note whose faces
are rendered when it is shown (see `llmquiz.store.faces`), its fields are found.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from llmquiz.store.faces import Faces
from llmquiz.store.records import SearchHit

EVERYTHING = (-(2**63), 2**63 - 1)
"""The least and the highest number that a card can have."""

_TRIGRAM = 3
_CHUNK = 250  # cards, each of which may have a megabyte
_MOST_OF_NOTE = 1 << 20  # characters of its fields
_BLANK = re.compile(r"\[[^\]]*\]")  # what a cloze asks for
_AROUND = 40

_SELECT = """
SELECT card.id, card.deck, card.kind, card_text.en, card_text.zh, card_text.facts, card.content,
       (SELECT min(suspended) FROM schedule WHERE schedule.card = card.id AND retired = 0),
       (SELECT max(flag) FROM schedule WHERE schedule.card = card.id AND retired = 0)
FROM card_text JOIN card ON card.number = card_text.rowid
WHERE card.archived_at IS NULL {conditions}
ORDER BY {order} LIMIT ?
"""
_CARDS_ALONE = "SELECT number, content, NULL FROM card WHERE number BETWEEN ? AND ? ORDER BY number LIMIT ?"
_CARDS = f"""
SELECT number, content, substr(fields, 1, {_MOST_OF_NOTE}) FROM card LEFT JOIN anki_note ON anki_note.card = card.id
WHERE number BETWEEN ? AND ? ORDER BY number LIMIT ?
"""
_IN_DOCUMENT = "(SELECT position FROM deck WHERE deck.id = card.deck), card.deck, card.position"


def search(connection: sqlite3.Connection, faces: Faces, query: str, limit: int) -> list[SearchHit]:
    """Cards that hold every term of `query`, best first; without terms, all cards in the order of their documents."""
    terms = query.replace("\0", " ").split()
    long = [term for term in terms if len(term) >= _TRIGRAM]
    short = [term for term in terms if len(term) < _TRIGRAM]
    conditions, values = "", list[Any]()
    if long:
        conditions += " AND card_text MATCH ?"
        values.append(" ".join(_quoted(term) for term in long))
    for term in short:
        conditions += " AND (" + " OR ".join(f"{name} LIKE ? ESCAPE '\\'" for name in ("en", "zh", "facts")) + ")"
        values += [_pattern(term)] * 3
    sql = _SELECT.format(conditions=conditions, order="rank" if long else _IN_DOCUMENT)
    return [_hit(row, terms, faces) for row in connection.execute(sql, (*values, limit)).fetchall()]


def index_rows(connection: sqlite3.Connection, rows: Iterable[tuple[int, str, str | None]]) -> None:
    """Put cards into the index, in place of what it held of them.

    Args:
        rows: number, content, and of a note from Anki its fields.
    """
    entries = [(number, *_searchable(json.loads(content), fields)) for number, content, fields in rows]
    connection.executemany("DELETE FROM card_text WHERE rowid = ?", [(entry[0],) for entry in entries])
    connection.executemany("INSERT INTO card_text (rowid, en, zh, facts) VALUES (?, ?, ?, ?)", entries)


def index_between(connection: sqlite3.Connection, first: int, last: int) -> None:
    """Put the cards with these numbers into the index. Rows are read before any is written: a statement that is open
    beside makes it half as slow again.
    """
    sql = _CARDS if _has_notes(connection) else _CARDS_ALONE
    while first <= last and (rows := connection.execute(sql, (first, last, _CHUNK)).fetchall()):
        index_rows(connection, rows)
        first = rows[-1][0] + 1


def index_all(connection: sqlite3.Connection) -> None:
    """Put every card into the index."""
    index_between(connection, *EVERYTHING)


def _has_notes(connection: sqlite3.Connection) -> bool:
    """Whether the schema is one that can hold what came from Anki."""
    return connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'anki_note'").fetchone() is not None


def _searchable(card: dict[str, Any], fields: str | None) -> tuple[str, str, str]:
    facts = " ".join((card["id"], card["topic"], *card.get("tags", ())))
    return _words(card["texts"].get("en"), fields), _words(card["texts"].get("zh"), fields), facts


def _words(text: dict[str, Any] | None, fields: str | None) -> str:
    if text is None:
        return ""
    if faces := text.get("faces"):
        return _words_of_note(faces, fields)
    choices = [part for choice in text.get("choices", ()) for part in (choice[0], choice[2])]
    names = ("front", "answer", "detail", "pitfall")
    parts = [*(text.get(name, "") for name in names), *text.get("key_points", ()), *text.get("symbols", ()), *choices]
    return "\n".join(part for part in parts if part)


def _words_of_note(faces: Sequence[Any], fields: str | None) -> str:
    whole = [face for face in faces if not isinstance(face, int)]
    if len(whole) == len(faces):
        return _words_of_faces(whole)
    from llmquiz.notes.words import words  # cards of our own need none of it

    told = words(fields or "")
    return f"{told}\n{_words_of_faces(whole)}" if whole else told


def _words_of_faces(faces: Iterable[Sequence[Any]]) -> str:
    """Each line once: a back mostly repeats its front, a reversed card its sibling, a cloze all of the text each time.

    Written out, the index would take several times as long to make, for nothing more to be found.
    """
    backs = "\n".join({line: None for face in faces for line in _lines(face[2])})
    fronts = {line: None for face in faces for line in _lines(face[1]) if not _is_within(line, backs)}
    return "\n".join((*fronts, backs))


def _lines(side: str) -> list[str]:
    return side.replace("**", "").split("\n")


def _is_within(line: str, text: str) -> bool:
    return line in text or ("[" in line and all(piece.strip() in text for piece in _BLANK.split(line)))


def _quoted(term: str) -> str:
    return '"' + term.replace('"', '""') + '"'


def _pattern(term: str) -> str:
    escaped = term.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _hit(row: tuple[Any, ...], terms: list[str], faces: Faces) -> SearchHit:
    card_id, deck, kind, en, zh, facts, content, suspended, flag = row
    return SearchHit(
        card_id, deck, kind, faces.fronts(content), _snippet((en, zh, facts), terms), bool(suspended), flag or 0
    )


def _snippet(texts: tuple[str, ...], terms: list[str]) -> str:
    for term in terms:
        for text in texts:
            at = text.lower().find(term.lower())
            if at >= 0:
                return _cut(text, at, len(term))
    return _cut(texts[0] or texts[1], 0, 0)


def _cut(text: str, at: int, length: int) -> str:
    start, end = max(at - _AROUND, 0), at + length + _AROUND
    piece = " ".join(text[start:end].split())
    return f"{'…' if start else ''}{piece}{'…' if end < len(text) else ''}"
