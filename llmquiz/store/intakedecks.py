"""Decks that no file owns, and the records that another program wants back with them.

A file's deck is never overwritten: an imported one that has its id gets another, the same at every repetition.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from itertools import count

from llmquiz.core.card import Lang
from llmquiz.store.incoming import Incoming, IncomingDeck
from llmquiz.store.intakenames import Renamer
from llmquiz.store.soundness import Findings, clean, is_row_id

_FIRST_POSITION = 1_000_000  # behind all decks of files
_WRITE = """
INSERT INTO deck (id, title_en, title_zh, intro_en, intro_zh, position, builtin, origin) VALUES (?, ?, ?, ?, ?, ?, 0, ?)
ON CONFLICT (id) DO UPDATE SET title_en = excluded.title_en, title_zh = excluded.title_zh,
intro_en = excluded.intro_en, intro_zh = excluded.intro_zh, archived_at = NULL
"""
_WRITE_DECK = """INSERT INTO anki_deck VALUES (?, ?, ?)
ON CONFLICT (id) DO UPDATE SET deck = excluded.deck, content = excluded.content"""


class Decks:
    """The decks of one import, by the id that the other program's reader gave them."""

    def __init__(
        self, connection: sqlite3.Connection, incoming: Incoming, renamer: Renamer, findings: Findings
    ) -> None:
        self._connection = connection
        self._origin = incoming.origin
        self._findings = findings
        self._wanted = {deck.id for deck in incoming.decks}
        self._ids: dict[str, str] = {}
        owners = connection.execute("SELECT id, origin, position FROM deck").fetchall()
        self._origins: dict[str, str | None] = {row[0]: row[1] for row in owners}
        self._positions = {row[0]: row[2] for row in owners if row[1]}
        self._next_position = max((_FIRST_POSITION, *(place + 1 for place in self._positions.values())))
        for deck in incoming.decks:
            self._write(deck)
        self._write_foreign(incoming, renamer)

    def id_of(self, deck: str) -> str:
        """The deck in the store; made under its id if the import has none of that name."""
        found = self._ids.get(deck)
        if found is None:
            self._findings.say(f"deck '{clean(deck)[:80]}' has notes but is not described; its id is its title")
            return self._write(IncomingDeck(deck, {Lang.EN: deck}))
        return found

    def _write(self, deck: IncomingDeck) -> str:
        if deck.id in self._ids:
            return self._ids[deck.id]
        deck_id = self._free_id(deck.id)
        self._ids[deck.id] = deck_id
        self._origins[deck_id] = self._origin
        if deck_id not in self._positions:
            self._positions[deck_id], self._next_position = self._next_position, self._next_position + 1
        titles, intros = _clean(deck.titles), _clean(deck.intros)
        if not titles:
            titles = {Lang.EN: deck_id}
        texts = [texts.get(lang) for texts in (titles, intros) for lang in (Lang.EN, Lang.ZH)]
        self._connection.execute(_WRITE, (deck_id, *texts, self._positions[deck_id], self._origin))
        return deck_id

    def _free_id(self, wanted: str) -> str:
        deck_id = clean(wanted) or self._origin
        if self._is_ours(deck_id):
            return deck_id
        names = (f"{deck_id}-{number}" for number in count(2))
        other = next(name for name in names if name not in self._wanted and self._is_ours(name))
        self._findings.say(f"deck '{deck_id}': another deck has this id; this one is '{other}'")
        return other

    def _is_ours(self, deck_id: str) -> bool:
        return self._origins.get(deck_id, self._origin) == self._origin

    def _write_foreign(self, incoming: Incoming, renamer: Renamer) -> None:
        notetypes = {number: renamer.notetype(content) for number, content in incoming.anki_notetypes.items()}
        for table, contents in (("anki_notetype", notetypes), ("anki_preset", incoming.anki_presets)):
            self._connection.executemany(
                f"INSERT INTO {table} VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET content = excluded.content",
                [(number, clean(content)) for number, content in contents.items() if is_row_id(number)],
            )
        rows = [
            (number, self._ids.get(deck or ""), clean(content))
            for number, (deck, content) in incoming.anki_decks.items()
            if is_row_id(number)
        ]
        self._connection.executemany(_WRITE_DECK, rows)


def _clean(texts: Mapping[Lang, str]) -> dict[Lang, str]:
    return {lang: clean(text) for lang, text in texts.items() if text}
