"""The collection of a package as records, row by row: a hundred thousand reviews never lie in memory at once.

Both schemas share the tables of notes, cards and reviews; they differ in how they keep note types, decks and presets.
The iterators come in one order of notes, so that a reader can take a note, its cards and their reviews in one pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from llmquiz.anki.archive import columns, definitions, names, schema11, schema18
from llmquiz.anki.archive.limits import KB, MB, Limits
from llmquiz.anki.archive.package import Package
from llmquiz.anki.archive.records import CardRow, DeckRecord, NoteRecord, NoteTypeRecord, PresetRecord, ReviewRow
from llmquiz.anki.archive.untrusted import Database, database

_SCHEMAS = {11: schema11.definitions, 18: schema18.definitions}
_ROWS = ("notes", "cards", "revlog")
_TABLES = {11: _ROWS, 18: (*_ROWS, "notetypes", "fields", "templates", "decks", "deck_config", "config")}
_FIELD_END = "\x1f"
_FIELDS_A_ROW = 16
_MOST_GUID = 500
_ROLLOVER_HOUR = 4
_SCHEDULER = 2
_NOTES = "SELECT id, guid, mid, mod, tags, flds FROM notes NOT INDEXED ORDER BY id"
_TWICE = "SELECT guid FROM notes NOT INDEXED GROUP BY guid HAVING count(*) > 1"


class Tables:
    """A collection.

    Attributes:
        created_at: Unix seconds at which day 0 starts.
        rollover_hour: at which a day starts, in local time.
        minutes_west: how far west of UTC its clock was on day 0; None from versions that did not keep it.
        scheduler: 1 or 2; the first one counted steps and the days of filtered decks in another way.
        counts: rows of notes, cards and reviews in the file, with those that the iterators leave out.
    """

    def __init__(self, source: Database, limits: Limits, findings: list[str]) -> None:
        self._source = source
        self._limits = limits
        self._findings = findings
        schema, self.created_at = self._head()
        source.check(_TABLES[schema])
        self.counts = self._counts()
        found = _SCHEMAS[schema](source, limits)
        self.notetypes: Mapping[int, NoteTypeRecord] = definitions.notetypes(found.notetypes, findings)
        self.decks: Mapping[int, DeckRecord] = definitions.decks(found.decks)
        self.presets: Mapping[int, PresetRecord] = definitions.presets(found.presets)
        hour = definitions.integer(found.options.get("rollover"))
        self.rollover_hour = hour if hour is not None and 0 <= hour <= 23 else _ROLLOVER_HOUR
        offset = definitions.integer(found.options.get("creationOffset"))
        self.minutes_west = offset if offset is not None and abs(offset) <= 24 * 60 else None
        self.scheduler = definitions.integer(found.options.get("schedVer")) or 1

    def notes(self) -> Iterator[NoteRecord]:
        """The notes by id. What is left out is told in the package's findings when the last one was taken."""
        tally = names.Tally(self._findings)
        twice = {guid: False for (guid,) in self._source.rows(_TWICE)}
        for row in self._source.rows(_NOTES):
            note, problem = self._note(row)
            if note is None or twice.get(note.guid):
                tally.add(f"left out, {problem or 'another note has the same guid'}", f"note {row[0]}")
                continue
            if note.guid in twice:
                twice[note.guid] = True
            yield note
        tally.flush()

    def cards(self) -> Iterator[CardRow]:
        """The cards by note and ordinal, each pair once; a card may name a note or a deck that is not there."""
        tally = names.Tally(self._findings)
        last = None
        for card in columns.cards(self._source, tally):
            if (card.note, card.ordinal) == last:
                tally.add("left out, its note has that card already", f"card {card.id}")
                continue
            last = card.note, card.ordinal
            yield card if len(card.data) <= self._limits.field_kb * KB else card._replace(data="")
        tally.flush()

    def reviews(self) -> Iterator[ReviewRow]:
        """The reviews by card and id; a review may name a card that is not there."""
        tally = names.Tally(self._findings)
        yield from columns.reviews(self._source, tally)
        tally.flush()

    def _head(self) -> tuple[int, int]:
        """The schema and the instant of creation."""
        self._source.check(("col",))
        version, created_at = self._source.row("SELECT ver, crt FROM col NOT INDEXED") or (None, None)
        if version not in _SCHEMAS:
            shown = version if isinstance(version, int) else "unknown"
            hint = "open it in a current Anki and export it with 'Support older Anki versions' ticked"
            raise self._source.error(f"schema {shown} of the collection is not known; {hint}")
        if not isinstance(created_at, int) or not 0 <= created_at <= columns.MOST_MS // 1000:
            raise self._source.damaged("its creation time is no time")
        return version, created_at

    def _counts(self) -> tuple[int, int, int]:
        most = self._limits.notes, self._limits.cards, self._limits.reviews
        counted = []
        for table, limit in zip(_ROWS, most, strict=True):
            (count,) = self._source.row(f"SELECT count(*) FROM {table} NOT INDEXED") or (0,)
            if count > limit:
                what = "reviews" if table == "revlog" else table
                raise self._source.error(f"{count:,} {what}, more than {limit:,} (limits.{what})")
            counted.append(count)
        return counted[0], counted[1], counted[2]

    def _note(self, row: tuple[Any, ...]) -> tuple[NoteRecord | None, str]:
        """A note, or why there is none."""
        id_, guid, notetype, modified, tags, flds = row
        if [type(value) for value in row] != [int, str, int, int, str, str] or not 0 < id_ <= columns.MOST_MS:
            return None, "a column has a value that no Anki writes"
        if notetype not in self.notetypes:
            return None, "its note type is not there"
        if not 0 <= modified <= columns.MOST_MS // 1000 or len(guid) > _MOST_GUID:
            return None, "a column has a value that no Anki writes"
        fields = _fitted(flds.split(_FIELD_END), len(self.notetypes[notetype].fields))
        if max(map(len, fields)) * 4 > self._limits.field_kb * KB and self._too_long(fields):
            return None, f"a field has more than {self._limits.field_kb:,} KiB (limits.field_kb)"
        return NoteRecord(id_, guid, notetype, modified, _tags(tags), fields), ""

    def _too_long(self, fields: tuple[str, ...]) -> bool:
        return any(len(field.encode()) > self._limits.field_kb * KB for field in fields)


@contextmanager
def reading(package: Package, limits: Limits) -> Iterator[Tables]:
    """Read the collection of `package`, which stays open as long as the tables are used.

    Raises:
        ImportFileError: if it is damaged, of an unknown schema or passes the limits; the iterators, too.
    """
    row_bytes = max(limits.definitions_mb * MB, _FIELDS_A_ROW * limits.field_kb * KB) + KB
    with database(package.collection, package.error, row_bytes=row_bytes) as source:
        yield Tables(source, limits, package.findings)


def _fitted(fields: list[str], count: int) -> tuple[str, ...]:
    """As many fields as the note type has: missing ones are empty, surplus ones join the last, as in Anki."""
    if len(fields) > count:
        fields = [*fields[: count - 1], "; ".join(fields[count - 1 :])]
    return (*fields, *[""] * (count - len(fields)))


def _tags(text: str) -> tuple[str, ...]:
    cleaned = (names.clean(tag, absent="") for tag in text.replace("\u3000", " ").split(" ") if tag)
    return tuple(tag for tag in cleaned if tag)
