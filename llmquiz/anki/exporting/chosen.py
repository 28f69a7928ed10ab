"""Which cards an export takes, as two temporary tables that all its queries start from.

`chosen` has a row for each card, in the order of study: `note` is the row of `anki_note` that it came from, `id` what
the package calls that note; both are NULL for a card of ours, or where the note's type is lost. `part` has a row for
each of their schedules: `card` is what the package calls it, NULL until it is known. Both end with the transaction.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from llmquiz.anki.exporting.ids import Ids

_CHOSEN = """
    CREATE TEMP TABLE chosen (
      position INTEGER PRIMARY KEY, number INTEGER NOT NULL, card TEXT NOT NULL, note INTEGER, id INTEGER
    )
"""
_CHOOSE = """
    INSERT INTO chosen (number, card, note, id) SELECT card.number, card.id, anki_note.rowid, anki_note.id
    FROM card JOIN deck ON deck.id = card.deck
    LEFT JOIN anki_note ON anki_note.card = card.id AND notetype IN (SELECT id FROM anki_notetype)
    WHERE card.archived_at IS NULL AND card.deck IN (SELECT value FROM json_each(:decks)) AND (
      :since IS NULL OR card.added_at >= :since OR card.changed_at >= :since OR card.id IN (
        SELECT schedule.card FROM live_review JOIN schedule ON schedule.id = live_review.schedule
        WHERE live_review.id >= :since * 1000
      )
    )
    ORDER BY deck.position, deck.id, card.position, card.id
"""
_PART = """
    CREATE TEMP TABLE part (
      schedule INTEGER PRIMARY KEY, position INTEGER NOT NULL, leech INTEGER NOT NULL, card INTEGER
    )
"""
_ADD_PARTS = """
    INSERT INTO part SELECT schedule.id, position, leech, iif(note IS NULL, NULL, anki_card.id)
    FROM chosen CROSS JOIN schedule ON schedule.card = chosen.card AND schedule.retired = 0
    LEFT JOIN anki_card ON anki_card.schedule = schedule.id
"""


class Chosen(NamedTuple):
    """How many cards go, and the ids of those notes and cards that Anki has numbered."""

    total: int
    notes: Ids
    cards: Ids


def choose(connection: sqlite3.Connection, decks: str, since: float | None) -> Chosen:
    """Fill both tables.

    Args:
        decks: their ids, as JSON.
        since: Unix seconds; only cards that were added, changed or answered from then on.
    """
    connection.execute(_CHOSEN)
    connection.execute(_PART)
    total = connection.execute(_CHOOSE, {"decks": decks, "since": since}).rowcount
    connection.execute(_ADD_PARTS)
    return Chosen(total, _claim(connection, "chosen", "position", "id"), _claim(connection, "part", "schedule", "card"))


def _claim(connection: sqlite3.Connection, table: str, key: str, column: str) -> Ids:
    """Two collections may have given one id to different things: the second gets the next that is free."""
    ids = Ids()
    rows = connection.execute(f"SELECT {column}, {key} FROM {table} WHERE {column} IS NOT NULL ORDER BY {key}")
    moved = [(number, row) for wanted, row in rows if (number := ids.claim(wanted)) != wanted]
    connection.executemany(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", moved)
    return ids
