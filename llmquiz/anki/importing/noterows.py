"""The rows of Anki's notes, with all that can be said of a note before its cards are known.

Reading starts while SQLite still stages the cards in another thread; so it takes a connection of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from typing import NamedTuple

from llmquiz.anki.archive import columns, names
from llmquiz.anki.archive.untrusted import Database
from llmquiz.anki.importing import naming
from llmquiz.anki.importing.cards import LEECH
from llmquiz.core.card import Lang
from llmquiz.notes.template import is_harmless

FIELD_END = "\x1f"
FITS = f"""(typeof(notes.id) = 'integer' AND notes.id BETWEEN 1 AND {columns.MOST_MS}
  AND typeof(guid) = 'text' AND length(guid) <= 500 AND typeof(mid) = 'integer'
  AND typeof(notes.mod) = 'integer' AND notes.mod BETWEEN 0 AND {columns.MOST_MS // 1000}
  AND typeof(tags) = 'text' AND typeof(flds) = 'text')"""
"""Whether a row of ``notes`` is one that Anki writes."""

_NOTES = f"SELECT id, guid, mid, mod, tags, flds FROM notes NOT INDEXED WHERE {FITS} ORDER BY id"
_CACHED = 10_000  # tags of as many notes
_BATCH, _BATCH_CHARACTERS = 200, 1 << 18
_AHEAD, _AHEAD_CHARACTERS = 20_000, 1 << 24
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


class NoteRows:
    """Reads the notes of these types in the order of their ids, once."""

    def __init__(self, source: Database, notetypes: Collection[int]) -> None:
        self._source = source
        self._notetypes = notetypes
        self._rows = self._read()
        self._ahead: deque[NoteRow] = deque()

    def read_ahead(self, is_enough: Callable[[], bool]) -> None:
        """Read some notes, which are then given by the iterator, until it is enough or memory is full."""
        room = _AHEAD_CHARACTERS
        while len(self._ahead) < _AHEAD and room > 0 and not is_enough():
            row = next(self._rows, None)
            if row is None:
                break
            room -= len(row.fields)
            self._ahead.append(row)

    def __iter__(self) -> Iterator[NoteRow]:
        while self._ahead:
            yield self._ahead.popleft()
        yield from self._rows

    def _read(self) -> Iterator[NoteRow]:
        notetypes, make = self._notetypes, NoteRow._make
        for batch in self._batches():
            # One look at many notes takes a fraction of the time that one at each would.
            harmless = is_harmless("\n".join([row[5] for row in batch]).replace(FIELD_END, "\n"))
            for number, guid, notetype, modified, tags, fields in batch:
                if notetype not in notetypes:
                    continue
                lang = _EN if fields.isascii() else naming.language(fields).value
                named = naming.media_named(fields)
                card = naming.card_id(guid)
                yield make((number, guid, notetype, modified, _tagged(tags), fields, card, lang, named, harmless))

    def _batches(self) -> Iterator[list[tuple[int, str, int, int, str, str]]]:
        """The rows, some at a time: few where they are long."""
        batch: list[tuple[int, str, int, int, str, str]] = []
        room = _BATCH_CHARACTERS
        for row in self._source.rows(_NOTES):
            batch.append(row)
            room -= len(row[5])
            if room < 0 or len(batch) == _BATCH:
                yield batch
                batch, room = [], _BATCH_CHARACTERS
        yield batch


@lru_cache(maxsize=_CACHED)
def _tagged(text: str) -> tuple[str, tuple[str, ...], str]:
    """Anki's tags parted by spaces, those that are kept as ours, and the topic that one of them names, or nothing."""
    cleaned = (names.clean(tag, absent="") for tag in text.replace("\u3000", " ").split(" ") if tag)
    tags = [tag for tag in cleaned if tag]
    kept, topic = naming.tags_and_topic(tags, "")
    return " ".join(tags), tuple([tag for tag in kept if tag.lower() != LEECH]), topic
