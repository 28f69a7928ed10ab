"""What came from Anki and goes back to it: note types, decks and presets as they were, and the media that notes name.

Anki refuses a package with a deck whose preset is not in it, and takes two decks of one name for one.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from html import unescape
from typing import Any

from llmquiz.anki.exporting.collection import DEFAULT_ID
from llmquiz.anki.importing import naming

Entry = dict[str, Any]
_MOST_FIELDS = 1 << 31

_NOTETYPES = """
    SELECT id, content FROM anki_notetype WHERE id IN
    (SELECT anki_note.notetype FROM chosen JOIN anki_note ON anki_note.rowid = chosen.note) ORDER BY id
"""
_USED_DECKS = """
    SELECT DISTINCT deck FROM part JOIN anki_card ON anki_card.schedule = part.schedule WHERE card IS NOT NULL
"""
_LENDING = """
    SELECT DISTINCT json_extract(kept, '$.lent[0]') FROM part JOIN anki_card ON anki_card.schedule = part.schedule
    WHERE card IS NOT NULL AND json_valid(kept) AND instr(kept, '"lent":')
"""
_PICTURE = re.compile(r"img\b", re.IGNORECASE)
_SOURCE = re.compile(r"\bsrc\s*=\s*", re.IGNORECASE)
_NAME = re.compile(r"""["']?([^"']+)""")


def notetypes(connection: sqlite3.Connection) -> dict[int, Entry]:
    """The note types of the chosen notes, as entries of ``models``."""
    return {number: json.loads(content) for number, content in connection.execute(_NOTETYPES)}


def decks(connection: sqlite3.Connection, chosen: Collection[str], *, whole: bool, lent: bool) -> dict[int, Entry]:
    """Anki's decks: those of the chosen notes and of the decks `chosen`, with all above them.

    Args:
        lent: take the filtered decks, too, that have some of the cards.
        whole: take every deck, also one that nothing lies in.
    """
    known: dict[int, tuple[str | None, Entry]] = {
        number: (deck, json.loads(content))
        for number, deck, content in connection.execute("SELECT id, deck, content FROM anki_deck ORDER BY id")
    }
    used = {number for (number,) in connection.execute(_USED_DECKS)}
    filtered = {number for number, (_, entry) in known.items() if entry.get("dyn")}
    lending = {number for (number,) in connection.execute(_LENDING)} & filtered if lent and filtered else set()
    names = {
        entry["name"].casefold()
        for number, (deck, entry) in known.items()
        if number in lending or (number not in filtered and (whole or number in used or deck in chosen))
    }
    names |= {above for name in names for above in _above(name)}
    return {
        number: {**entry, "id": number}
        for number, (_, entry) in known.items()
        if entry["name"].casefold() in names and (number in lending or number not in filtered)
    }


def presets(connection: sqlite3.Connection, entries: Iterable[Entry]) -> dict[int, Entry]:
    """The presets of `entries`, which are decks; a deck whose own is not there gets the default one. A filtered deck
    has none.
    """
    known = {number: json.loads(content) for number, content in connection.execute("SELECT * FROM anki_preset")}
    used = set()
    for entry in entries:
        if entry.get("dyn"):
            continue
        number = entry.get("conf", DEFAULT_ID)
        entry["conf"] = number if number in known else DEFAULT_ID
        used.add(entry["conf"])
    return {number: {**content, "id": number} for number, content in sorted(known.items()) if number in used}


def sorted_by(notetype: Mapping[str, Any]) -> int:
    """The place of the field by whose text Anki's browser sorts the notes of this type."""
    at = notetype.get("sortf")
    return at if isinstance(at, int) and 0 < at < _MOST_FIELDS else 0


def bare(html: str) -> str:
    """A field as Anki compares it: without markup, but with the names of its pictures."""
    if "<" in html:
        *tags, rest = html.split(">")
        html = "".join(map(_without_tag, tags)) + rest
    return unescape(html).strip() if "&" in html else html.strip()


def _without_tag(html: str) -> str:
    """HTML that ends where a ``>`` stood."""
    text, opened, tag = html.partition("<")
    return text + (_picture(tag) if opened else ">")


def _picture(tag: str) -> str:
    """The name of the picture that a tag shows; no pattern goes over the tag more than once."""
    if _PICTURE.match(tag):
        for source in reversed([*_SOURCE.finditer(tag)]):
            if name := _NAME.match(tag, source.end()):
                return f" {name[1]} "
    return ""


def named(fields: str) -> set[str]:
    """The media files that the fields of a note may mean: names stand there as they are, escaped or encoded."""
    if "src" not in fields and "data" not in fields and "[sound:" not in fields:
        return set()
    plain = {unescape(name) for name in naming.media_named(fields)}
    return plain | {naming.decoded(name) for name in plain}


def of_notetypes(models: Iterable[Mapping[str, Any]], known: Iterable[str]) -> Iterator[str]:
    """The `known` files that templates and style sheets name: those start with an underscore."""
    text = json.dumps(list(models), ensure_ascii=False)
    return (name for name in known if name.startswith("_") and name in text)


def _above(name: str) -> Iterator[str]:
    levels = name.split("::")
    return ("::".join(levels[:count]) for count in range(1, len(levels)))
