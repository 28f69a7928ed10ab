"""The rows of Anki's notes, with all that can be said of a note without its cards."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from llmquiz.anki.archive import columns, names
from llmquiz.anki.archive.untrusted import Database
from llmquiz.anki.importing import naming
from llmquiz.anki.importing.homes import LEECH
from llmquiz.core.card import Lang
from llmquiz.notes.template import is_harmless

_Row: TypeAlias = tuple[int, str, int, int, str, str]

FIELD_END = "\x1f"
FITS = f"""(typeof(notes.id) = 'integer' AND notes.id BETWEEN 1 AND {columns.MOST_MS}
  AND typeof(guid) = 'text' AND length(guid) <= 500 AND typeof(mid) = 'integer'
  AND typeof(notes.mod) = 'integer' AND notes.mod BETWEEN 0 AND {columns.MOST_MS // 1000}
  AND typeof(tags) = 'text' AND typeof(flds) = 'text')"""
"""Whether a row of ``notes`` is one that Anki writes."""

_NOTES = f"SELECT id, guid, mid, mod, tags, flds FROM notes NOT INDEXED WHERE {FITS} ORDER BY id"
_CACHED = 10_000  # tags of as many notes
_BATCH, _BATCH_CHARACTERS = 200, 1 << 18
_EN = Lang.EN.value


class NoteRow(NamedTuple):
    """A note.

    Attributes:
        modified: Unix seconds.
        tagged: Anki's tags parted by spaces, those that are kept as ours, and the topic that one of them names.
        fields: HTML, parted by U+001F; as many as there are in the file.
        card: our id of it; `lang`: the language that it is in.
        named: files that it shows or plays.
        harmless: whether its fields hold nothing that a screen must not get.
    """

    number: int
    guid: str
    notetype: int
    modified: int
    tagged: tuple[str, tuple[str, ...], str]
    fields: str
    card: str
    lang: str
    named: frozenset[str]
    harmless: bool


def note_rows(source: Database, notetypes: Collection[int]) -> Iterator[NoteRow]:
    """The notes of these types in the order of their ids."""
    make = NoteRow._make
    for batch in _batches(source):
        plain, other = _are_harmless(batch)
        for number, guid, notetype, modified, tags, fields in batch:
            if notetype not in notetypes:
                continue
            lang, harmless = (_EN, plain) if fields.isascii() else (naming.language(fields).value, other)
            named = naming.media_named(fields)
            card = naming.card_id(guid)
            yield make((number, guid, notetype, modified, _tagged(tags), fields, card, lang, named, harmless))


def _batches(source: Database) -> Iterator[list[_Row]]:
    """The rows, some at a time: few where they are long."""
    batch: list[_Row] = []
    room = _BATCH_CHARACTERS
    for row in source.rows(_NOTES):
        batch.append(row)
        room -= len(row[5])
        if room < 0 or len(batch) == _BATCH:
            yield batch
            batch, room = [], _BATCH_CHARACTERS
    yield batch


def _are_harmless(batch: Sequence[_Row]) -> tuple[bool, bool]:
    """Whether all notes in ASCII are, and all others: one look at many takes a fraction of what one at each would."""
    plain: list[str] = []
    other: list[str] = []
    for row in batch:
        (plain if row[5].isascii() else other).append(row[5])
    return _is_harmless(plain), _is_harmless(other)


def _is_harmless(fields: Sequence[str]) -> bool:
    return not fields or is_harmless("\n".join(fields).replace(FIELD_END, "\n"))


@lru_cache(maxsize=_CACHED)
def _tagged(text: str) -> tuple[str, tuple[str, ...], str]:
    """Anki's tags parted by spaces, those that are kept as ours, and the topic that one of them names, or nothing."""
    cleaned = (names.clean(tag, absent="") for tag in text.replace("\u3000", " ").split(" ") if tag)
    tags = [tag for tag in cleaned if tag]
    kept, topic = naming.tags_and_topic(tags, "")
    return " ".join(tags), tuple([tag for tag in kept if tag.lower() != LEECH]), topic
