"""Merging what another program hands over: one transaction, and merging it again changes nothing.

Who wins? Text follows the other program, for here nobody edits it: the newer change stands. Progress follows whoever
asked last (see `llmquiz.store.intakejudge`), and every answer of both joins the log.
"""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path

from llmquiz import locations
from llmquiz.core.card import Card
from llmquiz.core.day import Calendar
from llmquiz.core.schedule import State
from llmquiz.store import log
from llmquiz.store.content import CARDS_PER_DECK, queue_new_cards, ranks
from llmquiz.store.counts import counts
from llmquiz.store.incoming import AnkiCard, Incoming, IncomingNote, IncomingPart, IntakeReport
from llmquiz.store.intakecards import Chunk, Row, Stored, encoded, progress_columns, stored
from llmquiz.store.intakedecks import Decks
from llmquiz.store.intakejudge import Judge
from llmquiz.store.intakelog import BUFFERED, IncomingLog
from llmquiz.store.intakemedia import gathered
from llmquiz.store.intakenames import Renamer
from llmquiz.store.soundness import Findings, Inspector
from llmquiz.store.store import Store

_CHUNK = 500
_DUE, _RETIRED = 4, 16  # places in `log.COLUMNS`
_FOREIGN = log.WIDTH  # where the columns of `anki_card` start: id, deck, factor, kept


@contextmanager
def _collecting_seldom() -> Iterator[None]:
    """Rows hold no cycles: to look for some, again and again, takes a twentieth of an import."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


class _TakenBack(Exception):  # noqa: N818
    """Ends a dry run."""


def merge(
    store: Store,
    incoming: Incoming,
    *,
    calendar: Calendar,
    now: float,
    dry_run: bool = False,
    media_folder: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> IntakeReport:
    """Bring all of `incoming` into the store, or nothing; what is here already stays as it is.

    Args:
        now: Unix seconds.
        dry_run: do all of it and take it back; the report is that of the merge, and no file changes.
        media_folder: where pictures and sounds go; the user's own by default.
        progress: called with the number of notes read so far.

    Raises:
        StoreError: if the store or the folder cannot be written; nothing has changed.
        ImportFileError: if reading `incoming` fails on the way; nothing has changed.
    """
    findings = Findings()
    folder = media_folder or locations.media()
    with (
        _collecting_seldom(),
        gathered(store.connection, incoming.media, folder, findings, dry_run=dry_run) as media,
        suppress(_TakenBack),
        store.transaction() as connection,
    ):
        before = counts(connection)
        merging = _Merging(connection, incoming, media.place(connection), findings, calendar, now)
        merging.take_all(incoming.notes, progress)
        after = counts(connection)
        if dry_run:
            raise _TakenBack
        media.publish()
    return IntakeReport(
        before,
        after,
        merging.added,
        merging.changed,
        merging.unchanged,
        merging.schedules_changed,
        merging.log.reviews_added,
        (*incoming.findings, *findings),
    )


class _Merging:
    """One merge, in the transaction that the caller holds."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        incoming: Incoming,
        renamed: dict[str, str],
        findings: Findings,
        calendar: Calendar,
        now: float,
    ) -> None:
        self._connection = connection
        self._findings = findings
        self._inspector = Inspector(calendar, now, findings)
        self._renamer = Renamer(renamed)
        self._decks = Decks(connection, incoming, findings)
        self._ranks = ranks(connection)
        self._chunk = Chunk(connection, int(now))
        self._judge = Judge(connection)
        self._seen: set[str] = set()
        self.log = IncomingLog(connection, calendar, self._inspector.latest, findings)
        self.added = self.changed = self.unchanged = self.schedules_changed = 0

    def take_all(self, notes: Iterable[IncomingNote], progress: Callable[[int], None] | None) -> None:
        """Read the notes through and merge them."""
        iterator, read = iter(notes), 0
        while chunk := list(islice(iterator, _CHUNK)):
            self._take([sound for note in chunk if (sound := self._inspector.note(note)) and self._is_first(sound)])
            read += len(chunk)
            if progress:
                progress(read)
        self.log.flush()
        self._chunk.postpone_index()
        queue_new_cards(self._connection)
        if self.added or self.changed or self.schedules_changed:
            log.bar_undo(self._connection)

    def _is_first(self, note: IncomingNote) -> bool:
        """Not a note that came already; a card of ours with many faces comes back as several notes."""
        if note.card.id in self._seen and not note.keeps_text:
            self._findings.count("notes that came twice, left out the second time")
            return False
        self._seen.add(note.card.id)
        return True

    def _take(self, notes: list[IncomingNote]) -> None:
        here = stored(self._connection, [note.card.id for note in notes])
        for note in notes:
            was = here.get(note.card.id)
            if note.keeps_text or (was and not was.foreign and not was.archived):
                self._take_progress(note, was)
            elif was is None:
                self._add(self._renamer.note(note))
            else:
                self._update(self._renamer.note(note), was)
        self._chunk.write()
        self.log.flush(at_least=BUFFERED)

    def _take_progress(self, note: IncomingNote, was: Stored | None) -> None:
        if was is None:
            self._findings.count("cards of llmquiz that no deck has any more, left out")
            return
        self.unchanged += 1
        for ordinal, part in self._inspector.parts(note, tuple(was.parts)).items():
            self._merge_part(was.parts[ordinal], replace(part, anki=None) if part.anki else part, newest=False)

    def _add(self, note: IncomingNote) -> None:
        card, deck, position = note.card, self._deck(note.card), self._position(note)
        content, digest = encoded(card, deck)
        self._chunk.add_card(card, deck, position, digest, content)
        self.added += 1
        if note.anki:
            self._chunk.write_note(card.id, note.anki)
        ordinals = card.ordinals
        parts = self._inspector.parts(note, ordinals)
        for ordinal in ordinals:
            self._add_part(card.id, ordinal, parts.get(ordinal), self._place(deck, position))

    def _update(self, note: IncomingNote, was: Stored) -> None:
        card, deck, position = note.card, self._deck(note.card), self._position(note)
        content, digest = encoded(card, deck)
        newest = was.archived or note.anki is None or was.modified is None or note.anki.modified >= was.modified
        text = newest and (digest != was.digest or was.archived)
        place = newest and (deck, position) != (was.deck, was.position)
        note_row = newest and note.anki is not None and (text or note.anki.modified != was.modified)
        if text or place:
            self._chunk.change_card(card, was, deck, position, digest, content)
        if note_row and note.anki:
            self._chunk.write_note(card.id, note.anki)
        if text or place or note_row:
            self.changed += 1
        else:
            self.unchanged += 1
        ordinals = card.ordinals if newest else tuple(was.parts)
        if text:
            self._retire(was, ordinals)
        parts = self._inspector.parts(note, ordinals)
        for ordinal in ordinals:
            if ordinal not in was.parts:
                self._add_part(card.id, ordinal, parts.get(ordinal), self._place(deck, position))
            elif ordinal in parts:
                self._merge_part(was.parts[ordinal], parts[ordinal], newest=newest)

    def _retire(self, was: Stored, ordinals: tuple[int, ...]) -> None:
        """As for a deck of ours: a part that is gone is retired; if it comes back, so does its history."""
        for ordinal, row in was.parts.items():
            if bool(row[_RETIRED]) is (ordinal in ordinals):
                self._chunk.retire_part(row[0], ordinal not in ordinals)

    def _add_part(self, card_id: str, ordinal: int, part: IncomingPart | None, place: int) -> None:
        part = part or IncomingPart(ordinal)
        due = place if part.schedule.state is State.NEW else part.schedule.due
        schedule = self._chunk.add_part(card_id, ordinal, progress_columns(part, due))
        if part.anki:
            self._chunk.write_card(schedule, part.anki)
        if part.reviews:
            self.log.add(schedule, part.reviews)

    def _merge_part(self, row: Row, part: IncomingPart, *, newest: bool) -> None:
        columns = progress_columns(part, part.schedule.due if part.schedule.state is not State.NEW else row[_DUE])
        applies = self._judge.applies(row, columns)
        if applies:
            self._chunk.change_part(row[0], columns)
            self.schedules_changed += 1
        if part.anki:
            self._merge_card(row, part.anki, applies=applies, newest=newest)
        if part.reviews:
            self.log.add(row[0], part.reviews)

    def _merge_card(self, row: Row, anki: AnkiCard, *, applies: bool, newest: bool) -> None:
        """What Anki wants back belongs to its schedule: where ours stands, only the card's deck may be another."""
        card, deck, factor, kept = row[_FOREIGN:]
        if (applies or card is None) and (card, deck, factor, kept) != (anki.id, anki.deck, anki.factor, anki.kept):
            self._chunk.write_card(row[0], anki)
        elif newest and not applies and deck != anki.deck:
            self._chunk.write_card(row[0], AnkiCard(card, anki.deck, factor, kept))

    def _deck(self, card: Card) -> str:
        deck = self._decks.id_of(card.deck)
        if deck not in self._ranks:
            self._ranks = ranks(self._connection)
        return deck

    def _position(self, note: IncomingNote) -> int:
        return self._inspector.position(note.position, CARDS_PER_DECK - 1)

    def _place(self, deck: str, position: int) -> int:
        return self._ranks[deck] * CARDS_PER_DECK + position
