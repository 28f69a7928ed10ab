"""A collection of Anki → what the store takes in: schedules and answers staged by SQL, and notes as they are read.

A note of Anki is one card here, and each of its cards a part of it with a schedule of its own. Its text is what its
templates make of its fields; fields, templates and all else travel along unread, so that the way back loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from llmquiz.anki.archive.limits import KB, Limits
from llmquiz.anki.archive.package import Package, opened
from llmquiz.anki.archive.reading import Tables, reading, row_bytes
from llmquiz.anki.archive.untrusted import database
from llmquiz.anki.importing import cards, naming
from llmquiz.anki.importing.baggage import Baggage, survey
from llmquiz.anki.importing.logstaging import LogStaging
from llmquiz.anki.importing.noterows import NoteRows
from llmquiz.anki.importing.notes import Notes
from llmquiz.anki.importing.past import Past, first_day
from llmquiz.core.day import SYSTEM_CLOCK, Calendar, Clock
from llmquiz.core.garbage import collected_seldom
from llmquiz.core.options import Options
from llmquiz.store.incoming import Incoming, IncomingMedia, Staged
from llmquiz.store.staging import StagedNote

_PARTS, _LOG = "parts.db", "log.db"


@contextmanager
def arriving(
    file: Path, limits: Limits, *, calendar: Calendar, options: Options, clock: Clock = SYSTEM_CLOCK
) -> Iterator[Incoming]:
    """What the .apkg or .colpkg `file` brings; it can be read while the context lasts.

    Args:
        calendar, options: what the schedules here are made with.

    Raises:
        ImportFileError: if the file is none of Anki's, is damaged or passes the limits; reading its notes, too.
    """
    findings: list[str] = []
    with collected_seldom(), opened(file, limits) as package:
        folder = package.collection.parent
        log = LogStaging(package.collection, package.error, limits, folder / _LOG)
        with closing(log):
            log.start()  # it takes longer than all else
            with (
                reading(package, limits, folder / _PARTS) as tables,
                database(package.collection, package.error, row_bytes=row_bytes(limits)) as beside,
            ):
                rows = NoteRows(beside, tables.notetypes.keys())
                arrival = _Arrival(package, tables, rows, log, limits, calendar, findings)
                yield arrival.incoming(folder / _PARTS, options, clock())


class _Arrival:
    """The staging of one collection."""

    def __init__(
        self,
        package: Package,
        tables: Tables,
        rows: NoteRows,
        log: LogStaging,
        limits: Limits,
        calendar: Calendar,
        findings: list[str],
    ) -> None:
        self._package = package
        self._tables = tables
        self._rows = rows
        self._log = log
        self._limits = limits
        self._calendar = calendar
        self._findings = findings

    def incoming(self, parts: Path, options: Options, now: float) -> Incoming:
        """Stage the cards; notes are read, and findings added, while the store takes them."""
        tables, most = self._tables, self._limits.field_kb * KB
        day0 = first_day(tables, self._calendar)
        own = cards.stage(
            tables, day0, self._calendar, self._package.findings, most_data=most, meanwhile=self._rows.read_ahead
        )
        baggage = Baggage(tables, survey(tables.source))
        baggage.place()
        self._findings += baggage.findings(options)
        notes = Notes(tables, self._rows, baggage, own, most=most)
        past = Past(tables, self._calendar, now, self._findings)
        return Incoming(
            origin=naming.ORIGIN,
            decks=baggage.our_decks(),
            notes=(),
            num_notes=tables.counts[0],
            staged=Staged(self._notes(notes, past), parts, self._log.result),
            media=[IncomingMedia(name, file.open) for name, file in self._package.media.items()],
            anki_notetypes=baggage.notetype_entries(),
            anki_presets=baggage.preset_entries(),
            anki_decks=baggage.deck_entries(),
            findings=self._findings,
        )

    def _notes(self, notes: Notes, past: Past) -> Iterator[StagedNote]:
        """The notes, and after the last of them what completes their parts and the findings."""
        yield from notes
        past.complete(self._log.result)
        self._findings += self._log.told()
        self._findings += notes.told(self._package.media.keys())
        if past.recalled:
            self._findings.append(
                f"{past.recalled:,} cards had no FSRS memory; it was computed from their answers, else from their ease"
            )
        self._findings[:0] = self._package.findings
