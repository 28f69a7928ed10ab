"""Merging what another program hands over: one transaction, and merging it again changes nothing.

Who wins? Text follows the other program, for here nobody edits it: the newer change stands. Progress follows whoever
asked last (see `llmquiz.store.intakejudge`), and every answer of both joins the log. Notes come one by one; schedules
and answers are put into databases of their own meanwhile (see `llmquiz.store.staging`) and are moved by SQL, answers
early where they can be (see `llmquiz.store.intakeearly`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from llmquiz import locations
from llmquiz.core.day import Calendar
from llmquiz.core.garbage import collected_seldom
from llmquiz.store import log
from llmquiz.store.content import queue_new_cards, ranks
from llmquiz.store.counts import counts
from llmquiz.store.incoming import Incoming, IntakeReport
from llmquiz.store.intakedecks import Decks
from llmquiz.store.intakeearly import Early, chunks
from llmquiz.store.intakelog import Log
from llmquiz.store.intakemedia import gathered
from llmquiz.store.intakenames import Renamer
from llmquiz.store.intakenotes import Notes
from llmquiz.store.intakeobjects import Objects
from llmquiz.store.intakeparts import Parts
from llmquiz.store.intakespace import SCRATCH, Space, fetch, space
from llmquiz.store.soundness import Findings, Inspector
from llmquiz.store.staging import StagedNote
from llmquiz.store.store import Store

_OTHERS = "SELECT 1 FROM deck WHERE origin IS NOT NULL LIMIT 1"


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
        collected_seldom(),
        gathered(store.connection, incoming.media, folder, findings, dry_run=dry_run) as media,
        space(store.connection, store.path) as room,
        suppress(_TakenBack),
        store.transaction() as connection,
    ):
        before, order = counts(connection), _order(connection)
        renamer = Renamer(media.place(connection))
        merging = _Merging(room, incoming, renamer, findings, calendar, now)
        merging.take_all(progress)
        if merging.queue_may_differ(order):
            queue_new_cards(connection)
        if merging.changes:
            log.bar_undo(connection)
        after = counts(connection)
        if dry_run:
            raise _TakenBack
        media.publish()
    notes, parts = merging.notes, merging.parts
    return IntakeReport(
        before,
        after,
        notes.added,
        notes.changed,
        notes.unchanged,
        parts.changed,
        parts.renewed,
        merging.log.added,
        (*incoming.findings, *findings),
    )


class _Merging:
    """One merge, in the transaction that the caller holds."""

    def __init__(
        self,
        room: Space,
        incoming: Incoming,
        renamer: Renamer,
        findings: Findings,
        calendar: Calendar,
        now: float,
    ) -> None:
        connection = room.connection
        is_first = not fetch(connection, _OTHERS)
        inspector = Inspector(calendar, now, findings)
        decks = Decks(connection, incoming, renamer, findings)
        self._room = room
        self._staged = incoming.staged
        self.notes = Notes(connection, decks, renamer, findings, int(now))
        self.parts = Parts(connection, findings)
        self.log = Log(connection, calendar, inspector.latest_ms, findings)
        self._chunks: Iterator[Sequence[StagedNote | None]]
        if not self._staged:
            self._chunks = chunks(Objects(connection, inspector, renamer, findings).staged(incoming.notes))
        elif is_first:
            self._chunks = Early(room, self._staged, self.log, self.parts.base).chunks()
        else:
            self._chunks = chunks(self._staged.notes)

    def take_all(self, progress: Callable[[int], None] | None) -> None:
        """Read the notes through and merge them, then their parts, then their answers."""
        staged, attach = self._staged, self._room.attach
        self._take_notes(progress)
        arriving = attach(staged.parts()) if staged else SCRATCH
        with self._room.moving():
            self.parts.take(arriving, known=self.notes.known)
        answers = attach(staged.log()) if staged else SCRATCH
        with self._room.moving():
            self.log.take(answers, as_foretold=self.parts.as_foretold)
        self.notes.postpone_index()

    @property
    def changes(self) -> bool:
        """Whether a note or a schedule is not as it was."""
        return bool(self.notes.added or self.notes.changed or self.parts.changed)

    def queue_may_differ(self, order: Mapping[str, int | None]) -> bool:
        """Whether new cards of before may have another place than in that `order`; those that came in have theirs."""
        if self.notes.changed or self.parts.changed:
            return True
        after = _order(self._room.connection)
        return any(after[deck] != rank for deck, rank in order.items())

    def _take_notes(self, progress: Callable[[int], None] | None) -> None:
        read = 0
        for chunk in self._chunks:
            with self._room.moving():
                self.notes.take([note for note in chunk if note])
            read += len(chunk)
            if progress:
                progress(read)


def _order(connection: sqlite3.Connection) -> dict[str, int | None]:
    """The rank of each deck; None of one that is archived."""
    rank = ranks(connection)
    return {deck: rank.get(deck) for (deck,) in connection.execute("SELECT id FROM deck")}
