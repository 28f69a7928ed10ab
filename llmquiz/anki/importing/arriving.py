"""A collection of Anki → what the store takes in, in one pass over notes, cards and log.

A note of Anki is one card here, and each of its cards a part of it with a schedule of its own. Its text is what its
templates make of its fields; fields, templates and all else travel along unread, so that the way back loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from llmquiz.anki.archive.limits import Limits
from llmquiz.anki.archive.package import Package, opened
from llmquiz.anki.archive.reading import Tables, reading
from llmquiz.anki.archive.records import CardRow, NoteRecord, NoteTypeRecord
from llmquiz.anki.exporting.notetypes import FACES
from llmquiz.anki.importing import naming
from llmquiz.anki.importing.baggage import DEFAULT_DECK, Baggage, Survey, home_deck, survey
from llmquiz.anki.importing.logs import Logs
from llmquiz.anki.importing.past import Past, data_of
from llmquiz.anki.importing.sm2 import Recaller
from llmquiz.core.card import Card, CardText, Frequency, Kind, Level, NoteFace
from llmquiz.core.day import Calendar
from llmquiz.core.errors import ScheduleError
from llmquiz.core.options import Options
from llmquiz.core.schedule import State
from llmquiz.notes.template import Renderer
from llmquiz.store.incoming import AnkiNote, Incoming, IncomingMedia, IncomingNote, IncomingPart

_LEECH = "leech"
_SHOWN = 3  # names in a finding


@contextmanager
def arriving(file: Path, limits: Limits, *, calendar: Calendar, options: Options) -> Iterator[Incoming]:
    """What the .apkg or .colpkg `file` brings; it can be read while the context lasts.

    Args:
        calendar, options: what the schedules here are made with.

    Raises:
        ImportFileError: if the file is none of Anki's, is damaged or passes the limits; reading its notes, too.
    """
    with opened(file, limits) as package, reading(package, limits) as tables:
        yield incoming(package, tables, calendar=calendar, options=options)


def incoming(package: Package, tables: Tables, *, calendar: Calendar, options: Options) -> Incoming:
    """All that the collection brings; its notes are read, and findings added, while the store takes them.

    Args:
        calendar, options: what the schedules here are made with.
    """
    found = survey(tables)
    baggage = Baggage(tables, found)
    findings = baggage.findings(options)
    arrival = _Arrival(package, tables, found, baggage, calendar, options, findings)
    return Incoming(
        origin=naming.ORIGIN,
        decks=baggage.our_decks(),
        notes=arrival.notes(),
        num_notes=tables.counts[0],
        media=[IncomingMedia(name, file.open) for name, file in package.media.items()],
        anki_notetypes=baggage.notetype_entries(),
        anki_presets=baggage.preset_entries(),
        anki_decks=baggage.deck_entries(),
        findings=findings,
    )


class _Arrival:
    """The pass over the notes."""

    def __init__(
        self,
        package: Package,
        tables: Tables,
        found: Survey,
        baggage: Baggage,
        calendar: Calendar,
        options: Options,
        findings: list[str],
    ) -> None:
        self._package = package
        self._tables = tables
        self._found = found
        self._baggage = baggage
        self._findings = findings
        self._calendar = calendar
        self._past = Past(tables.created_at, tables.minutes_west, self._recaller, calendar, options)
        self._recallers: dict[int, Recaller] = {}
        self._renderers: dict[int, Renderer] = {}
        self._logs = Logs(tables.reviews(), found.ids)
        self._named: set[str] = set()
        self._without_cards = self._without_note = 0
        self._count = 0

    def notes(self) -> Iterator[IncomingNote]:
        """The notes in the order of their ids, each with its cards and their logs."""
        groups = groupby(self._tables.cards(), key=attrgetter("note"))
        group = next(groups, None)
        for note in self._tables.notes():
            while group and group[0] < note.id:
                self._pass_over(group[1])
                group = next(groups, None)
            if group is None or group[0] != note.id:
                self._without_cards += 1
                continue
            yield self._note(note, list(group[1]))
            group = next(groups, None)
        while group:
            self._pass_over(group[1])
            group = next(groups, None)
        self._conclude()

    def _pass_over(self, rows: Iterator[CardRow]) -> None:
        """Leave out cards that have no note, with their answers."""
        for row in rows:
            self._logs.of(row.id)
            self._without_note += 1

    def _note(self, note: NoteRecord, rows: Sequence[CardRow]) -> IncomingNote:
        self._count += 1
        if self._baggage.lost:
            rows = [self._baggage.placed(row) for row in rows]
        notetype = self._tables.notetypes[note.notetype]
        return (self._own if note.id in self._found.own else self._foreign)(note, rows, notetype)

    def _own(self, note: NoteRecord, rows: Sequence[CardRow], notetype: NoteTypeRecord) -> IncomingNote:
        """A card that llmquiz exported: its text is ours, and Anki numbers deletions from 0, we from 1."""
        card_id, part = naming.own_card_id(note.guid)
        card = Card(card_id, "", card_id, Kind.OPEN, Level.L1, Frequency.MEDIUM, {})
        first = 1 if notetype.is_cloze else part * FACES
        return IncomingNote(card, self._count, self._parts(note, rows, first, keeps=False), keeps_text=True)

    def _foreign(self, note: NoteRecord, rows: Sequence[CardRow], notetype: NoteTypeRecord) -> IncomingNote:
        if (renderer := self._renderers.get(notetype.id)) is None:
            renderer = self._renderers[notetype.id] = Renderer(notetype)
        deck_id = home_deck(rows[0])
        deck = self._baggage.decks.get(deck_id)
        slug = self._baggage.slugs[deck_id]
        ordinals = [row.ordinal for row in rows]
        faces = renderer.faces(note.fields, ordinals, tags=" ".join(note.tags), deck=deck.name if deck else "")
        joined = "\n".join(note.fields)
        self._named |= naming.media_named(joined)
        tags, topic = naming.tags_and_topic(note.tags, slug)
        card = Card(
            id=naming.card_id(note.guid),
            deck=slug,
            topic=topic,
            kind=Kind.NOTE,
            level=Level.L1,
            frequency=Frequency.MEDIUM,
            texts={naming.language(joined): CardText(_front(faces, notetype), "", faces=tuple(faces))},
            tags=tuple(tag for tag in tags if tag.lower() != _LEECH),
        )
        anki = AnkiNote(note.id, note.guid, note.notetype, note.modified, note.tags, note.fields)
        return IncomingNote(card, self._position(rows[0]), self._parts(note, rows, 0), anki)

    def _parts(
        self, note: NoteRecord, rows: Sequence[CardRow], first: int, *, keeps: bool = True
    ) -> list[IncomingPart]:
        leeches = self._leeches(note, rows)
        return [
            self._past.part(
                row, self._logs.of(row.id), ordinal=row.ordinal + first, leech=row.id in leeches, keeps=keeps
            )
            for row in rows
        ]

    def _leeches(self, note: NoteRecord, rows: Sequence[CardRow]) -> set[int]:
        """Anki tags the note of a leech and does not say which card it is: those that lapsed most often."""
        if not any(tag.lower() == _LEECH for tag in note.tags):
            return set()
        most = max(row.lapses for row in rows)
        return {row.id for row in rows if row.lapses == most}

    def _position(self, row: CardRow) -> int:
        """The note's place in its deck: where it stood, or stands, in Anki's queue of new cards."""
        if row.type == State.NEW and not row.original_deck:
            return max(row.due, 0)
        position = data_of(row.data).position
        return self._count if position is None else position

    def _recaller(self, deck_id: int) -> Recaller:
        deck = self._tables.decks.get(deck_id) or self._tables.decks.get(DEFAULT_DECK)
        preset = self._tables.presets.get(deck.preset) if deck else None
        key = preset.id if preset else 0
        if key not in self._recallers:
            kept = preset.legacy.get("sm2Retention") if preset else None
            retention = kept if isinstance(kept, float) else 0.9
            try:
                made = Recaller(preset.parameters if preset else (), self._calendar, retention)
            except ScheduleError as error:
                assert preset is not None  # the weights of no preset are the defaults
                self._findings.append(f"preset '{naming.safe(preset.name)}': {error}; the defaults were used")
                made = Recaller((), self._calendar, retention)
            self._recallers[key] = made
        return self._recallers[key]

    def _conclude(self) -> None:
        """Say what was found on the way."""
        for renderer in self._renderers.values():
            self._findings += sorted(renderer.findings)
        present = set(self._package.media)
        missing = {name for name in self._named if name not in present and naming.decoded(name) not in present}
        named = self._named | {naming.decoded(name) for name in self._named}
        unnamed = {name for name in present - named if not name.startswith("_")}
        counted = (
            (self._without_cards, "notes have no cards; left out"),
            (self._without_note, "cards have no note; left out"),
            (self._tables.counts[2] - self._logs.given, "answers are of cards that are gone; left out"),
            (self._past.recalled, "cards had no FSRS memory; it was computed from their answers, else from their ease"),
            (len(missing), f"pictures or sounds are named but not in the file: {_some(missing)}"),
            (len(unnamed), "pictures or sounds are named by no note; kept all the same"),
        )
        told = [f"{number:,} {what}" for number, what in counted if number]
        # The tables were read twice, and told twice what they left out.
        self._findings[:] = dict.fromkeys([*self._package.findings, *self._findings, *told])


def _front(faces: Sequence[NoteFace], notetype: NoteTypeRecord) -> str:
    return next((line for face in faces if (line := naming.headline(face.front))), naming.safe(notetype.name))


def _some(names: set[str]) -> str:
    shown = sorted(map(naming.safe, names))[:_SHOWN]
    return ", ".join(shown) + (", …" if len(names) > _SHOWN else "")
