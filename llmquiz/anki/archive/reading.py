"""The collection of a package: its tables of notes and cards, checked for whoever reads them, and all else as records.

Both schemas share the tables of notes, cards and reviews; they differ in how they keep note types, decks and presets.
The log is the largest table and is asked for last, so it is checked elsewhere: `llmquiz.anki.importing.logstaging`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from llmquiz.anki.archive import columns, definitions, schema11, schema18
from llmquiz.anki.archive.limits import KB, MB, Limits
from llmquiz.anki.archive.package import Package
from llmquiz.anki.archive.records import DeckRecord, NoteTypeRecord, PresetRecord
from llmquiz.anki.archive.untrusted import Database, database

_SCHEMAS = {11: schema11.definitions, 18: schema18.definitions}
_ROWS = ("notes", "cards")
_TABLES = {11: (), 18: ("notetypes", "fields", "templates", "decks", "deck_config", "config")}
FIELDS_A_ROW = 16
"""Of the greatest length allowed that a row may surely have: together they stay below the limit of `row_bytes`."""
_ROLLOVER_HOUR = 4


class Tables:
    """A collection.

    Attributes:
        source: the database; whether its notes and cards are whole is yet to be checked.
        created_at: Unix seconds at which day 0 starts.
        rollover_hour: at which a day starts, in local time.
        minutes_west: how far west of UTC its clock was on day 0; None from versions that did not keep it.
        scheduler: 1 or 2; the first one counted steps and the days of filtered decks in another way.
        counts: rows of notes and of cards in the file, with those that no Anki writes.
    """

    def __init__(self, source: Database, limits: Limits, findings: list[str]) -> None:
        self.source = source
        schema, self.created_at = self._head()
        source.check_plain(_ROWS)
        source.check(_TABLES[schema])
        self.counts = self._counts(limits)
        found = _SCHEMAS[schema](source, limits)
        self.notetypes: Mapping[int, NoteTypeRecord] = definitions.notetypes(found.notetypes, findings)
        self.decks: Mapping[int, DeckRecord] = definitions.decks(found.decks)
        self.presets: Mapping[int, PresetRecord] = definitions.presets(found.presets)
        hour = definitions.integer(found.options.get("rollover"))
        self.rollover_hour = hour if hour is not None and 0 <= hour <= 23 else _ROLLOVER_HOUR
        offset = definitions.integer(found.options.get("creationOffset"))
        self.minutes_west = offset if offset is not None and abs(offset) <= 24 * 60 else None
        self.scheduler = definitions.integer(found.options.get("schedVer")) or 1

    def _head(self) -> tuple[int, int]:
        """The schema and the instant of creation."""
        self.source.check(("col",))
        version, created_at = self.source.row("SELECT ver, crt FROM col NOT INDEXED") or (None, None)
        if version not in _SCHEMAS:
            shown = version if isinstance(version, int) else "unknown"
            hint = "open it in a current Anki and export it with 'Support older Anki versions' ticked"
            raise self.source.error(f"schema {shown} of the collection is not known; {hint}")
        if not isinstance(created_at, int) or not 0 <= created_at <= columns.MOST_MS // 1000:
            raise self.source.damaged("its creation time is no time")
        return version, created_at

    def _counts(self, limits: Limits) -> tuple[int, int]:
        counted = []
        for table, limit in zip(_ROWS, (limits.notes, limits.cards), strict=True):
            count = self.source.count(table)
            if count > limit:
                raise self.source.error(f"{count:,} {table}, more than {limit:,} (limits.{table})")
            counted.append(count)
        return counted[0], counted[1]


@contextmanager
def reading(package: Package, limits: Limits, scratch: Path | None = None) -> Iterator[Tables]:
    """Read the collection of `package`, which stays open as long as the tables are used.

    Args:
        scratch: as for `llmquiz.anki.archive.untrusted.database`.

    Raises:
        ImportFileError: if it is damaged, of an unknown schema or passes the limits.
    """
    with database(package.collection, package.error, row_bytes=row_bytes(limits), scratch=scratch) as source:
        yield Tables(source, limits, package.findings)


def row_bytes(limits: Limits) -> int:
    """The most bytes that a row of a collection may have."""
    return max(limits.definitions_mb * MB, FIELDS_A_ROW * limits.field_kb * KB) + KB
