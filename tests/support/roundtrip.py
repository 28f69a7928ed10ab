"""A collection before and after its way through llmquiz: everything that Anki shows of it, and what differs.

Some things are compared as Anki itself brings them: a buried card is awake after any import, a note type gets a plus
where its name is taken, and a package has only the pictures and sounds that notes name. A suspended step of days is
compared by its day: it comes back in seconds, since Anki's import would not move it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llmquiz.anki.archive.limits import Limits
from llmquiz.anki.exporting.export import Extras, export
from llmquiz.anki.importing.arriving import arriving
from llmquiz.core.day import Calendar
from llmquiz.core.options import Options
from llmquiz.store import Store
from llmquiz.store.incoming import IntakeReport
from llmquiz.store.intake import merge

_CARDS = """SELECT guid, ord, did, odid, odue, type, queue, due, ivl, factor, reps, lapses, left, cards.flags,
cards.data, cards.id FROM cards JOIN notes ON notes.id = nid"""
_LOG = """SELECT revlog.id, guid, ord, ease, revlog.ivl, lastIvl, revlog.factor, time, revlog.type
FROM revlog JOIN cards ON cards.id = cid JOIN notes ON notes.id = nid ORDER BY revlog.id"""
_COLUMNS = (
    "deck", "home", "home due", "type", "queue", "due", "ivl", "factor", "reps", "lapses", "left", "flags", "memory",
    "data", "id",
)  # fmt: skip


def take_in(store: Store, file: Path, media: Path, *, dry_run: bool = False) -> IntakeReport:
    """Import the package `file` into our store."""
    calendar = Calendar()
    with arriving(file, Limits(), calendar=calendar, options=Options()) as incoming:
        return merge(store, incoming, calendar=calendar, now=time.time(), dry_run=dry_run, media_folder=media)


def give_back(store: Store, out: Path, media: Path) -> Path:
    """Export all of our store, with schedules and media, as the package `out`."""
    return export(store, (), out, with_schedule=True, extras=Extras(media_folder=media)).path


def facts(col: Any) -> dict[str, dict[Any, Any]]:
    """What is compared, by kind and name."""
    types = {it["id"]: it for it in col.models.all()}
    used = {row[0] for row in col.db.all("SELECT DISTINCT mid FROM notes")}
    notes = col.db.all("SELECT guid, mid, mod, tags, flds FROM notes")
    decks = col.decks.all()
    return {
        "note": {guid: (_name(types[mid]), mod, tags, fields) for guid, mid, mod, tags, fields in notes},
        "card": dict(_cards(col)),
        "review": {row[0]: tuple(row[1:]) for row in col.db.all(_LOG)},
        "note type": {_name(it): _note_type(it) for it in types.values() if it["id"] in used},
        "deck": {deck["name"]: _deck(col, deck) for deck in decks},
        "preset": {preset["name"]: _preset(preset) for preset in col.decks.all_config()},
        "media": dict(_media(col, {name for note in notes for name in col.media.files_in_str(note[1], note[4])})),
    }


def _deck(col: Any, entry: Mapping[str, Any]) -> tuple[Any, ...]:
    if not entry["dyn"]:
        return entry["desc"], col.decks.get_config(entry["conf"])["name"]
    return tuple(entry[name] for name in ("desc", "resched", "terms", "previewAgainSecs", "previewHardSecs"))


def _name(note_type: Mapping[str, Any]) -> str:
    return str(note_type["name"]).rstrip("+")


def _media(col: Any, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    for file in (Path(col.media.dir()) / name for name in names):
        if file.is_file():
            yield file.name, hashlib.sha1(file.read_bytes()).hexdigest()


def _cards(col: Any) -> Iterator[tuple[tuple[str, int], dict[str, Any]]]:
    today = col.sched.today
    for guid, ordinal, deck, home, home_due, kind, queue, due, *rest, data, card_id in col.db.all(_CARDS):
        if queue < -1:
            queue = (1 if due > 1_000_000_000 else 3) if kind in (1, 3) else kind
        if kind == 2 or queue in (2, 3):
            due -= today
        elif kind and queue == -1:
            due = _suspended_step(due, today, col.sched.day_cutoff)
        if home_due and kind == 2:
            home_due -= today
        told = json.loads(data or "{}")
        memory = (told.get("s"), told.get("d"))
        values = (
            col.decks.name(deck),
            home and col.decks.name(home),
            home_due,
            kind,
            queue,
            due,
            *rest,
            memory,
            data,
            card_id,
        )
        yield (guid, ordinal), dict(zip(_COLUMNS, values, strict=True))


def _suspended_step(due: int, today: int, tomorrow: int) -> int:
    """Days from today for a step that counts days, or that is due with the start of one; else its instant."""
    if due < 1_000_000_000:
        return due - today
    return due if (due - tomorrow) % 86_400 else (due - tomorrow) // 86_400 + 1


def _note_type(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    fields = [tuple(field[name] for name in ("name", "rtl", "font", "size", "sticky")) for field in entry["flds"]]
    templates = [tuple(it[name] for name in ("name", "qfmt", "afmt", "bqfmt", "bafmt")) for it in entry["tmpls"]]
    return fields, templates, entry["css"], entry["latexPre"], entry["latexPost"], entry["type"], entry["sortf"]


def _preset(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    weights = [round(weight, 4) for weight in entry["fsrsParams6"]]
    return round(entry["desiredRetention"], 4), weights, entry["new"], entry["rev"], entry["lapse"]


def differences(before: Mapping[str, Mapping[Any, Any]], after: Mapping[str, Mapping[Any, Any]]) -> list[str]:
    """A line for each thing that is not the same after as before, or that came out of nowhere."""
    lines = []
    for kind, entries in before.items():
        for name in entries.keys() | after[kind].keys():
            was, became = entries.get(name), after[kind].get(name)
            if was != became:
                lines.append(f"{kind} {name}: {_told(was, became)}")
    return lines


def counted(lines: list[str]) -> str:
    """How many of `lines` are of each kind."""
    return ", ".join(f"{kind}: {count}" for kind, count in Counter(line.split()[0] for line in lines).items())


def _told(was: Any, became: Any) -> str:
    if isinstance(was, dict) and isinstance(became, dict):
        return ", ".join(f"{key} {was[key]!r} -> {became[key]!r}" for key in was if was[key] != became[key])
    return f"{was!r} -> {became!r}"
