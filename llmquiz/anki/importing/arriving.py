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
from llmquiz.anki.archive.reading import Tables, reading
from llmquiz.anki.importing import homes, naming
from llmquiz.anki.importing.baggage import Baggage, survey
from llmquiz.anki.importing.cards import PartStaging
from llmquiz.anki.importing.days import first_day
from llmquiz.anki.importing.logstaging import LogStaging
from llmquiz.anki.importing.notes import Notes
from llmquiz.anki.importing.past import Past
from llmquiz.core.day import SYSTEM_CLOCK, Calendar, Clock
from llmquiz.core.garbage import collected_seldom
from llmquiz.core.options import Options
from llmquiz.store.incoming import Incoming, IncomingMedia, Staged
from llmquiz.store.staging import StagedNote

_HOMES, _PARTS, _LOG = "homes.db", "parts.db", "log.db"


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
    with collected_seldom(), opened(file, limits) as package:
        folder = package.collection.parent
        log = LogStaging(package.collection, package.error, limits, folder / _LOG)
        with closing(log):
            log.start()  # it takes longer than all else
            with reading(package, limits, folder / _HOMES) as tables:
                arrival = _Arrival(package, tables, log, limits, calendar, options, clock())
                with closing(arrival.parts):
                    yield arrival.incoming()


class _Arrival:
    """The staging of one collection.

    Attributes:
        parts: to be closed.
    """

    def __init__(
        self,
        package: Package,
        tables: Tables,
        log: LogStaging,
        limits: Limits,
        calendar: Calendar,
        options: Options,
        now: float,
    ) -> None:
        folder = package.collection.parent
        special = homes.stage(tables, package.findings)
        self._baggage = Baggage(tables, survey(tables.source))
        self._baggage.place()
        self._findings = self._baggage.findings(options)
        self._package = package
        self._tables = tables
        self._log = log
        self._notes = Notes(tables, self._baggage, special.own, most=limits.field_kb * KB)
        self._past = Past(tables, calendar, now)
        self.parts = PartStaging(
            package,
            limits,
            folder / _PARTS,
            folder / _HOMES,
            leeches=special.leeches,
            day0=first_day(tables, calendar),
            calendar=calendar,
            past=self._past,
            log=log,
        )

    def incoming(self) -> Incoming:
        """Start to stage the cards; notes are read, and findings added, while the store takes them."""
        self.parts.start()
        baggage, package = self._baggage, self._package
        return Incoming(
            origin=naming.ORIGIN,
            decks=baggage.our_decks(),
            notes=(),
            num_notes=self._tables.counts[0],
            staged=Staged(self._told(), package.collection.parent / _HOMES, self._log.result, self._completed),
            media=[IncomingMedia(name, file.open) for name, file in package.media.items()],
            anki_notetypes=baggage.notetype_entries(),
            anki_presets=baggage.preset_entries(),
            anki_decks=baggage.deck_entries(),
            findings=self._findings,
        )

    def _told(self) -> Iterator[StagedNote]:
        """The notes, and after the last of them what was found."""
        yield from self._notes
        self._findings += self._log.told()
        self._findings += self._notes.told(self._package.media.keys())
        self._findings[:0] = self._package.findings

    def _completed(self) -> Path:
        """The parts, and what was found in completing them."""
        path = self.parts.result()
        self._findings += self._past.findings
        self._past.findings.clear()
        return path
