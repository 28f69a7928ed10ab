"""Decks that no file owns: what was imported and lives in the store alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from llmquiz.core.card import Lang

_DECKS = """
SELECT deck.id, title_en, title_zh, origin, count(card.id) FROM deck
LEFT JOIN card ON card.deck = deck.id AND card.archived_at IS NULL
WHERE origin IS NOT NULL AND deck.archived_at IS NULL GROUP BY deck.id ORDER BY deck.position, deck.id
"""


@dataclass(frozen=True, slots=True)
class ImportedDeck:
    """A deck, the program that it came from, and how many notes it holds."""

    id: str
    titles: Mapping[Lang, str]
    origin: str
    notes: int


def imported_decks(connection: sqlite3.Connection) -> list[ImportedDeck]:
    """The decks in the order of the home screen."""
    return [
        ImportedDeck(id_, {lang: title for lang, title in zip(Lang, titles, strict=True) if title}, origin, notes)
        for id_, *titles, origin, notes in connection.execute(_DECKS)
    ]
