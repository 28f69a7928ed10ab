"""The decks of a store that an export was asked for."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from llmquiz.core.card import Lang
from llmquiz.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class StoredDeck:
    """A deck as the store has it."""

    id: str
    titles: Mapping[Lang, str]
    intros: Mapping[Lang, str]
    position: int


def chosen_decks(connection: sqlite3.Connection, wanted: Sequence[str]) -> list[StoredDeck]:
    """The decks `wanted` (all of them, archived ones too, if empty), in the order of the deck list.

    Raises:
        UsageError: if one does not exist.
    """
    sql = "SELECT id, title_en, title_zh, intro_en, intro_zh, position FROM deck ORDER BY position, id"
    known = {
        row[0]: StoredDeck(row[0], _by_lang(row[1], row[2]), _by_lang(row[3], row[4]), row[5])
        for row in connection.execute(sql)
    }
    for name in wanted:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else "'llmquiz deck list' shows the decks"
            raise UsageError(f"there is no deck '{name}'; {hint}")
    return [deck for deck in known.values() if not wanted or deck.id in wanted]


def marks(values: Sequence[object]) -> str:
    """Placeholders of a statement for so many values."""
    return ", ".join("?" * len(values))


def _by_lang(english: str | None, chinese: str | None) -> dict[Lang, str]:
    return {lang: text for lang, text in ((Lang.EN, english), (Lang.ZH, chinese)) if text}
