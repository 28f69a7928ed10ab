"""Decks of the store → an Anki package, with or without what was learned."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from llmquiz.anki import apkg, collection, escape, html, notetypes, progress
from llmquiz.anki.ids import Ids
from llmquiz.anki.rows import Rows
from llmquiz.core.card import Lang
from llmquiz.core.day import Calendar
from llmquiz.core.errors import ExportError, UsageError
from llmquiz.core.options import Options
from llmquiz.store import Store

ROOT = "llmquiz"
"""The Anki deck above all of ours."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written: how many of each, the file and its size in bytes."""

    notes: int
    cards: int
    reviews: int
    decks: int
    path: Path
    bytes: int


@dataclass(frozen=True, slots=True)
class _Deck:
    id: str
    titles: Mapping[Lang, str]
    intros: Mapping[Lang, str]


def export(
    store: Store,
    decks: Sequence[str],
    out: Path,
    *,
    langs: Sequence[Lang] = (Lang.EN,),
    with_schedule: bool = False,
    calendar: Calendar | None = None,
    options: Options | None = None,
) -> ExportReport:
    """Write `decks` (all of them if empty) as the Anki package `out`.

    Args:
        langs: what each note holds; the first one names the decks.
        with_schedule: also when each card is due, and every review that was not undone.
        calendar, options: what the schedules were made with.

    Raises:
        UsageError: if one of `decks` does not exist.
        ExportError: if there is nothing to export or the file cannot be written.
    """
    calendar, options = calendar or Calendar(), options or Options()
    preset = progress.PRESET_ID if with_schedule else collection.DEFAULT_ID
    with _snapshot(store.connection) as connection:
        entries = _entries(_chosen(connection, decks), langs, preset)
        numbers = {deck: entry["id"] for deck, entry in entries.items()}
        rows = Rows(connection, numbers, langs, options, calendar if with_schedule else None)
        tables = collection.build(_head(entries, calendar, options), rows.notes(), rows.cards(), rows.reviews())
    if not rows.num_notes:
        raise ExportError(f"{out}: nothing to export; add cards first, see 'llmquiz deck new --help'")
    size = apkg.write(out, tables)
    return ExportReport(rows.num_notes, rows.num_cards, rows.num_reviews, len(entries), out, size)


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """One state of the database, although another llmquiz may be writing to it."""
    connection.execute("BEGIN")
    try:
        yield connection
    finally:
        connection.execute("ROLLBACK")


def _chosen(connection: sqlite3.Connection, wanted: Sequence[str]) -> list[_Deck]:
    known = {deck.id: deck for deck in _decks(connection)}
    for name in wanted:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else "'llmquiz deck list' shows the decks"
            raise UsageError(f"there is no deck '{name}'; {hint}")
    return [deck for deck in known.values() if not wanted or deck.id in wanted]


def _decks(connection: sqlite3.Connection) -> list[_Deck]:
    rows = connection.execute(
        "SELECT id, title_en, title_zh, intro_en, intro_zh FROM deck WHERE archived_at IS NULL ORDER BY position, id"
    )
    return [
        _Deck(deck_id, _by_lang(title_en, title_zh), _by_lang(intro_en, intro_zh))
        for deck_id, title_en, title_zh, intro_en, intro_zh in rows
    ]


def _by_lang(english: str | None, chinese: str | None) -> dict[Lang, str]:
    return {lang: text for lang, text in ((Lang.EN, english), (Lang.ZH, chinese)) if text}


def _entries(decks: Sequence[_Deck], langs: Sequence[Lang], preset: int) -> dict[str, dict[str, Any]]:
    """Anki's entry for each deck; a title that two decks share is told apart by the deck's id."""
    ids, taken, entries = Ids(), set[str](), {}
    for deck in decks:
        name = _name(_first(deck.titles, langs) or deck.id)
        if name.casefold() in taken:
            name = f"{name} ({deck.id})"
        taken.add(name.casefold())
        intro = html.block(_first(deck.intros, langs))
        entries[deck.id] = collection.deck(ids.of(deck.id), f"{ROOT}::{name}", preset=preset, description=intro)
    return entries


def _first(texts: Mapping[Lang, str], langs: Sequence[Lang]) -> str:
    """The text in the first of `langs` that has one, else in whichever language has."""
    return next((texts[lang] for lang in (*langs, *Lang) if lang in texts), "")


def _name(title: str) -> str:
    """`title` as one level of Anki's deck tree, whose separator is ``::``."""
    return " ".join(escape.clean(title).replace("::", ": ").split()).strip(":") or ROOT


def _head(entries: Mapping[str, Mapping[str, Any]], calendar: Calendar, options: Options) -> collection.Head:
    root_id = Ids().of("")
    decks = [collection.deck(collection.DEFAULT_ID, "Default"), collection.deck(root_id, ROOT), *entries.values()]
    presets = [
        progress.preset(collection.DEFAULT_ID, "Default", Options()),
        progress.preset(progress.PRESET_ID, ROOT, options),
    ]
    return collection.Head(
        created_at=progress.created_at(calendar),
        minutes_west=progress.minutes_west(calendar),
        rollover_hour=calendar.rollover_hour,
        models={note_type.id: notetypes.legacy(note_type) for note_type in notetypes.NOTE_TYPES},
        decks={deck["id"]: deck for deck in decks},
        presets={preset["id"]: preset for preset in presets},
    )
