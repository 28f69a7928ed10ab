"""Where exported cards lie in Anki: our decks below ``llmquiz``, on request with a deck for each topic below those."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from llmquiz.anki.exporting import collection, escape, html
from llmquiz.anki.exporting.ids import Ids
from llmquiz.core.card import Lang
from llmquiz.core.errors import UsageError

ROOT = "llmquiz"
"""The Anki deck above all of ours."""

Names = Mapping[Lang, str]

_DECKS = """
    SELECT id, title_en, title_zh, intro_en, intro_zh, origin FROM deck WHERE archived_at IS NULL ORDER BY position, id
"""
_TOPICS = """
    SELECT DISTINCT card.deck, card.topic FROM chosen JOIN card ON card.number = chosen.number
    WHERE note IS NULL ORDER BY chosen.position
"""


@dataclass(frozen=True, slots=True)
class Deck:
    """A deck of the store; `foreign` if Anki has decks of its own for what lies in it."""

    id: str
    titles: Names
    intros: Names
    foreign: bool


def chosen(connection: sqlite3.Connection, wanted: Sequence[str]) -> list[Deck]:
    """The decks `wanted`, all if it is empty.

    Raises:
        UsageError: if one of them does not exist.
    """
    known = {
        deck_id: Deck(deck_id, _by_lang(title_en, title_zh), _by_lang(intro_en, intro_zh), origin == "anki")
        for deck_id, title_en, title_zh, intro_en, intro_zh, origin in connection.execute(_DECKS)
    }
    for name in wanted:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else "'llmquiz deck list' shows the decks"
            raise UsageError(f"there is no deck '{name}'; {hint}")
    return [deck for deck in known.values() if not wanted or deck.id in wanted]


class Tree:
    """Anki's deck for every card of ours that goes.

    Args:
        taken: names of decks that came from Anki.
        topics: titles of topics; None for no decks of topics.
        only_used: leave out decks that none of the cards lies in.

    Attributes:
        entries: of our decks, as in ``decks``; those of topics after all others.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        decks: Sequence[Deck],
        langs: Sequence[Lang],
        taken: Sequence[str],
        topics: Mapping[str, Names] | None,
        *,
        preset: int,
        only_used: bool,
    ) -> None:
        pairs = connection.execute(_TOPICS).fetchall()
        used = {deck for deck, _ in pairs}
        self._names = {name.casefold() for name in taken}
        self._ids = Ids()
        self._preset = preset
        self._of: dict[tuple[str, str | None], int] = {}
        self._has_topics = topics is not None
        self.entries: list[dict[str, Any]] = []
        for deck in decks:
            if deck.id in used or not (deck.foreign or only_used):
                title = _first(deck.titles, langs) or deck.id
                intro = html.block(_first(deck.intros, langs))
                self._of[deck.id, None] = self._add(deck.id, f"{ROOT}::{_level(title)}", deck.id, intro)
        for deck_id, topic in pairs if topics is not None else ():
            title = _first((topics or {}).get(topic, {}), langs) or topic
            above = next(entry["name"] for entry in self.entries if entry["id"] == self._of[deck_id, None])
            self._of[deck_id, topic] = self._add(f"{deck_id}/{topic}", f"{above}::{_level(title)}", topic)

    def of(self, deck: str, topic: str) -> int:
        """The id of the deck for a card of ours."""
        return self._of.get((deck, topic if self._has_topics else None), collection.DEFAULT_ID)

    def _add(self, key: str, name: str, slug: str, intro: str = "") -> int:
        """A title that two decks share is told apart by what they are called here."""
        if name.casefold() in self._names:
            name = f"{name} ({slug})"
        self._names.add(name.casefold())
        self.entries.append(collection.deck(self._ids.of(key), name, preset=self._preset, description=intro))
        number: int = self.entries[-1]["id"]
        return number


def ids_json(decks: Sequence[Deck]) -> str:
    """The ids of `decks` for a query."""
    return json.dumps([deck.id for deck in decks])


def _by_lang(english: str | None, chinese: str | None) -> dict[Lang, str]:
    return {lang: text for lang, text in ((Lang.EN, english), (Lang.ZH, chinese)) if text}


def _first(texts: Names, langs: Sequence[Lang]) -> str:
    """The text in the first of `langs` that has one, else in whichever language has."""
    return next((texts[lang] for lang in (*langs, *Lang) if lang in texts), "")


def _level(title: str) -> str:
    """`title` as one level of Anki's deck tree, whose separator is ``::``."""
    return " ".join(escape.clean(title).replace("::", ": ").split()).strip(":") or ROOT
