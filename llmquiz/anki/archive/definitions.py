"""Note types, decks and presets as records, from the entries of schema 11's JSON: the form that both schemas come to.

Anki's clients and add-ons have written these entries for fifteen years, so nothing is taken for granted: an id may be
text, a field may lack its place, a deck its preset. What cannot be mended is left out and told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from llmquiz.anki.archive import names
from llmquiz.anki.archive.records import DeckRecord, NoteTypeRecord, PresetRecord, TemplateRecord

DEFAULT = 1
"""Id of the deck and of the preset that every collection has."""
LEVELS = "::"
_MOST_ID = 1 << 53
_WEIGHTS = (("fsrsParams6", 21), ("fsrsParams5", 19), ("fsrsWeights", 17))

Entry = Mapping[str, Any]


def notetypes(entries: Mapping[str, Any], findings: list[str]) -> dict[int, NoteTypeRecord]:
    """The note types among `entries`."""
    tally = names.Tally(findings)
    found = {}
    for key, entry in entries.items():
        record = _notetype(key, entry)
        if record is None:
            tally.add("left out, a note type must have fields and templates", f"note type {names.shown(str(key))}")
        else:
            found[record.id] = record
    tally.flush()
    return found


def decks(entries: Mapping[str, Any]) -> dict[int, DeckRecord]:
    """The decks among `entries`; the default deck is always there."""
    found = {}
    for key, entry in {"1": {"name": "Default"}, **entries}.items():
        deck_id = identity(key, entry)
        if deck_id is None:
            continue
        name = LEVELS.join(names.clean(level, absent="blank") for level in _text(entry, "name").split(LEVELS))
        is_filtered = bool(entry.get("dyn"))
        preset = DEFAULT if is_filtered else integer(entry.get("conf")) or DEFAULT
        legacy = {**entry, "id": deck_id, "name": name}
        found[deck_id] = DeckRecord(deck_id, name, preset, is_filtered, legacy)
    return found


def presets(entries: Mapping[str, Any]) -> dict[int, PresetRecord]:
    """The presets among `entries`."""
    found = {}
    for key, entry in entries.items():
        preset_id = identity(key, entry)
        if preset_id is not None:
            name = names.clean(_text(entry, "name"))
            legacy = {**entry, "id": preset_id, "name": name}
            found[preset_id] = PresetRecord(preset_id, name, _retention(entry), _parameters(entry), legacy)
    return found


def identity(key: object, entry: object) -> int | None:
    """The id of an entry; None if it has none that a collection can have."""
    if not isinstance(entry, Mapping):
        return None
    text = str(key)
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else integer(entry.get("id"))
    return number if number is not None and 0 < number < _MOST_ID else None


def integer(value: object) -> int | None:
    """A JSON number as an integer; None if it is none."""
    if isinstance(value, float) and math.isfinite(value):
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63 else None


def _notetype(key: object, entry: Any) -> NoteTypeRecord | None:
    notetype_id = identity(key, entry)
    if notetype_id is None:
        return None
    fields, templates = _ordered(entry.get("flds")), _ordered(entry.get("tmpls"))
    if not fields or not templates:
        return None
    field_entries = [{**field, "name": names.clean(_text(field, "name"))} for field in fields]
    template_entries = [{**template, "name": names.clean(_text(template, "name"))} for template in templates]
    name = names.clean(_text(entry, "name"))
    sort_field = integer(entry.get("sortf")) or 0
    return NoteTypeRecord(
        id=notetype_id,
        name=name,
        is_cloze=entry.get("type") == 1,
        fields=tuple(field["name"] for field in field_entries),
        templates=tuple(_template(template, ordinal) for ordinal, template in enumerate(template_entries)),
        css=_text(entry, "css"),
        sort_field=sort_field if 0 <= sort_field < len(fields) else 0,
        legacy={**entry, "id": notetype_id, "name": name, "flds": field_entries, "tmpls": template_entries},
    )


def _template(entry: Entry, ordinal: int) -> TemplateRecord:
    return TemplateRecord(entry["name"], ordinal, _text(entry, "qfmt"), _text(entry, "afmt"))


def _ordered(entries: object) -> list[Entry]:
    """Fields or templates in the order of their places, where all have one; empty if they are none."""
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return []
    places = [integer(entry.get("ord")) for entry in entries]
    if None in places:
        return entries
    return [entry for _, entry in sorted(zip(places, entries, strict=True), key=lambda pair: pair[0] or 0)]


def _text(entry: Entry, key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) else ""


def _retention(entry: Entry) -> float | None:
    value = entry.get("desiredRetention")
    return float(value) if isinstance(value, int | float) and 0 < value < 1 else None


def _parameters(entry: Entry) -> tuple[float, ...]:
    for key, count in _WEIGHTS:
        values = entry.get(key)
        if isinstance(values, list) and len(values) == count and _numbers(values):
            return tuple(map(float, values))
    return ()


def _numbers(values: Sequence[object]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6 for value in values)
