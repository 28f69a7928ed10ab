"""Decks of the store → an Anki package, with or without what was learned."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from llmquiz.anki.exporting import apkg, collection, decktree, foreign, notetypes, progress
from llmquiz.anki.exporting.chosen import choose
from llmquiz.anki.exporting.decktree import ROOT, Names, Tree
from llmquiz.anki.exporting.evidence import Draw, Evidence
from llmquiz.anki.exporting.ids import Ids
from llmquiz.anki.exporting.pictures import Labels
from llmquiz.anki.exporting.rows import Rows, Wanted
from llmquiz.core.card import Kind, Lang
from llmquiz.core.day import Calendar
from llmquiz.core.errors import ExportError, UsageError
from llmquiz.core.options import Options
from llmquiz.store import Store

_AGO = re.compile(r"(\d{1,5})d")
_KINDS = """
    SELECT DISTINCT card.kind FROM chosen JOIN card ON card.number = chosen.number WHERE note IS NULL
"""
_TYPES = {Kind.CLOZE: notetypes.CLOZE, Kind.CHOICE: notetypes.CHOICE, Kind.NOTE: notetypes.NOTE}


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written: how many of each, the file and its size in bytes.

    Attributes:
        media: pictures and sounds; `missing` are names of such that notes want and nobody has.
        undrawn: cards whose lab has results, of which no picture was made.
    """

    notes: int
    cards: int
    reviews: int
    decks: int
    path: Path
    bytes: int
    media: int = 0
    missing: tuple[str, ...] = ()
    undrawn: int = 0


@dataclass(frozen=True, slots=True)
class Extras:
    """What an export takes from outside of the store, and how it shows it.

    Attributes:
        since: Unix seconds; only cards that were added, changed or answered from then on.
        topics: titles of topics, for a deck below its deck for each; None for no such decks.
        labels: what the manifest of a lab says; None for one that is not there.
        draw: makes a picture of a lab's curves; None for no pictures.
        media_folder: where the pictures and sounds of imported notes lie.
        progress: told how many notes of how many are done.
    """

    since: float | None = None
    topics: Mapping[str, Names] | None = None
    labels: Callable[[str], Labels | None] = field(default=lambda _: None)
    draw: Draw | None = None
    media_folder: Path | None = None
    progress: Callable[[int, int], None] = field(default=lambda _done, _total: None)


def export(
    store: Store,
    decks: Sequence[str],
    out: Path,
    *,
    langs: Sequence[Lang] = (Lang.EN,),
    with_schedule: bool = False,
    calendar: Calendar | None = None,
    options: Options | None = None,
    extras: Extras | None = None,
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
    calendar, options, extras = calendar or Calendar(), options or Options(), extras or Extras()
    with _snapshot(store.connection) as connection:
        wanted = decktree.chosen(connection, decks)
        chosen = choose(connection, decktree.ids_json(wanted), extras.since)
        if not chosen.total:
            since = " since then" if extras.since is not None else ""
            raise ExportError(f"{out}: nothing to export{since}; add cards first, see 'llmquiz deck new --help'")
        whole = not decks and extras.since is None
        theirs = foreign.decks(connection, {deck.id for deck in wanted}, whole=whole, lent=with_schedule)
        names = [entry["name"] for entry in theirs.values()]
        preset = progress.PRESET_ID if with_schedule else collection.DEFAULT_ID
        only_used = extras.since is not None
        tree = Tree(connection, wanted, langs, names, extras.topics, preset=preset, only_used=only_used)
        models = foreign.notetypes(connection)
        head = _head(connection, tree, theirs, models, calendar, options, with_schedule=with_schedule)
        kept = {name for (name,) in connection.execute("SELECT name FROM media")}
        evidence = Evidence(connection, langs, calendar, extras.labels, extras.draw)
        rows = Rows(
            connection,
            chosen,
            Wanted(
                tree.of,
                set(theirs),
                models,
                kept,
                langs,
                options,
                calendar if with_schedule else None,
                calendar.day(time.time()),
                lambda done: extras.progress(done, chosen.total),
            ),
            evidence,
        )
        collection.create(connection)
        rows.write()
        tables = collection.finished(connection, head)
        extras.progress(chosen.total, chosen.total)
    wanted_media = (rows.media | set(foreign.of_notetypes(models.values(), kept))) & kept
    media, missing = _media(extras.media_folder, sorted(wanted_media), evidence.media)
    size = apkg.write(out, tables, media)
    return ExportReport(
        rows.num_notes,
        rows.num_cards,
        rows.num_reviews,
        len(tree.entries) + len(theirs),
        out,
        size,
        len(media),
        missing,
        evidence.undrawn,
    )


def since(text: str, calendar: Calendar, now: float) -> float:
    """The instant that ``2026-11-01`` or ``7d`` means: the start of that study day, Unix seconds.

    Raises:
        UsageError: if it is neither, or lies ahead.
    """
    today = calendar.day(now)
    if match := _AGO.fullmatch(text.strip()):
        return calendar.start(max(today - int(match[1]), 1))
    try:
        day = date.fromisoformat(text.strip()).toordinal()
    except ValueError as error:
        example = date.fromordinal(today - 7).isoformat()
        raise UsageError(f"--since '{text}' is no date; write one like {example}, or 7d for the last 7 days") from error
    if day > today:
        raise UsageError(f"--since {text.strip()} lies ahead; today is {date.fromordinal(today).isoformat()}")
    return calendar.start(day)


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """One state of the database, although another llmquiz may be writing to it. Temporary tables end with it."""
    with collection.attached(connection):
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("ROLLBACK")


def _head(
    connection: sqlite3.Connection,
    tree: Tree,
    theirs: Mapping[int, dict[str, Any]],
    models: Mapping[int, dict[str, Any]],
    calendar: Calendar,
    options: Options,
    *,
    with_schedule: bool,
) -> collection.Head:
    own = [collection.deck(Ids().of(""), ROOT), *tree.entries] if tree.entries else []
    decks = [collection.deck(collection.DEFAULT_ID, "Default"), *theirs.values(), *own]
    presets = {collection.DEFAULT_ID: progress.preset(collection.DEFAULT_ID, "Default", Options())}
    if tree.entries:
        presets[progress.PRESET_ID] = progress.preset(progress.PRESET_ID, ROOT, options)
    if with_schedule:
        presets |= foreign.presets(connection, theirs.values())
    else:
        for entry in theirs.values():
            entry["conf"] = collection.DEFAULT_ID
    kinds = {Kind(kind) for (kind,) in connection.execute(_KINDS)}
    own_types = {kind: _TYPES.get(kind, notetypes.QUESTION) for kind in sorted(kinds)}
    own_models = {note_type.id: notetypes.legacy(note_type) for note_type in own_types.values()}
    return collection.Head(
        created_at=progress.created_at(calendar),
        minutes_west=progress.minutes_west(calendar),
        rollover_hour=calendar.rollover_hour,
        models={**own_models, **models},
        decks={deck["id"]: deck for deck in decks},
        presets=presets,
    )


def _media(
    folder: Path | None, names: Sequence[str], drawn: Mapping[str, bytes]
) -> tuple[dict[str, bytes | Path], tuple[str, ...]]:
    """The files to pack, and the names of those that are not where they should be."""
    found: dict[str, bytes | Path] = {}
    missing = []
    for name in names:
        path = folder / name if folder else None
        if path is not None and path.parent == folder and path.is_file():
            found[name] = path
        else:
            missing.append(name)
    return found | dict(sorted(drawn.items())), tuple(missing)
