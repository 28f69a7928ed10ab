"""The store: one SQLite file, opened once, with a method for each thing that may be asked of it.

Writes happen in `transaction()`; whoever returns from it has the change on disk. The study path uses prepared
statements on `connection`; `db` is the same connection as a `sqlite_utils.Database`, for whoever wants to look
around.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from llmquiz import locations
from llmquiz.core.card import Card, Deck
from llmquiz.core.day import Calendar
from llmquiz.core.errors import StoreError
from llmquiz.core.options import Options
from llmquiz.core.schedule import Schedule
from llmquiz.store import backup, content, intakewords, log, queue, runs, search
from llmquiz.store.database import connect, explained
from llmquiz.store.faces import Faces
from llmquiz.store.records import (
    CardProgress,
    DeckCounts,
    PredictionRecord,
    ReviewRecord,
    RunRecord,
    SearchHit,
    StudyItem,
    SyncReport,
)

if TYPE_CHECKING:
    from sqlite_utils import Database

LEARN_AHEAD_SECONDS = 20 * 60

_ITEM = f"""SELECT {log.COLUMNS}, card.content FROM schedule JOIN card ON card.id = schedule.card
WHERE schedule.id = ?"""


class Store:
    """Cards, schedules, reviews and lab runs. Made by `Store.open`; a context manager that closes itself.

    Attributes:
        faces: makes cards of what the database holds of them, for whoever reads it by queries of their own.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.connection = connection
        self.path = path
        self.faces = Faces(connection)
        self._db: Database | None = None

    @classmethod
    def open(cls, path: Path | None = None, *, read_only: bool = False) -> Store:
        """The store in the file `path` (default: the user's own); made, or brought to the present schema, where needed.

        Raises:
            StoreError: if it cannot be opened, is damaged, or was written by a newer llmquiz.
        """
        path = path or locations.database()
        return cls(connect(path, read_only=read_only), path)

    def close(self) -> None:
        """Close the file; closing twice does nothing."""
        self.connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def db(self) -> Database:
        """The same connection with the conveniences of sqlite-utils, imported when first asked for."""
        if self._db is None:
            from sqlite_utils import Database

            self._db = Database(self.connection)
        return self._db

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of the block's changes or, if it raises, none. They are on disk when the block has been left.

        Raises:
            StoreError: if another process holds the lock too long, or the change cannot be written.
        """
        with explained(self.path):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                # SQLite rolls back by itself after some errors, a full disk among them.
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def backup(self, *, now: float | None = None) -> Path:
        """Copy the database to the `backups` folder beside it; returns the copy's path.

        Raises:
            StoreError: if the copy cannot be written.
        """
        return backup.make(self.connection, self.path, now=now)

    def meta(self, key: str) -> str | None:
        """A value that was kept under `key`; None if there is none."""
        with explained(self.path):
            row = self.connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        """Keep `value` under `key`."""
        with self.transaction() as connection:
            connection.execute(
                "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value)
            )

    def sync(
        self, decks: Sequence[Deck], *, now: float, archive_missing: bool = True, gone: Collection[str] = ()
    ) -> SyncReport:
        """Bring cards in line with `decks`, by id. Other decks stay as they are, except those that `gone` names.

        A changed card keeps its schedule; one that its deck no longer has is archived if `archive_missing`, and
        returns with its history once a deck has it again.

        Raises:
            StoreError: if two cards have one id, or the change cannot be written.
        """
        with self.transaction() as connection:
            return content.sync(connection, decks, now, archive_missing=archive_missing, gone=gone)

    def card(self, card_id: str) -> Card:
        """The card `card_id`, archived or not.

        Raises:
            StoreError: if there is none.
        """
        with explained(self.path):
            row = self.connection.execute("SELECT content FROM card WHERE id = ?", (card_id,)).fetchone()
            if row is None:
                raise StoreError(f"card '{card_id}' is unknown; `llmquiz search` finds cards")
            return self.faces.card(row[0])

    def cards(self, deck: str | None = None) -> list[Card]:
        """The cards that are not archived, of one deck or of all, in the order of their documents."""
        where, values = ("AND card.deck = ?", (deck,)) if deck else ("", ())
        sql = f"""SELECT content FROM card JOIN deck ON deck.id = card.deck WHERE card.archived_at IS NULL {where}
        ORDER BY deck.position, deck.id, card.position"""
        with explained(self.path):
            return [self.faces.card(row[0]) for row in self.connection.execute(sql, values)]

    def schedule(self, schedule_id: int) -> Schedule:
        """When the part `schedule_id` of a card is due.

        Raises:
            StoreError: if there is none.
        """
        return self.progress(schedule_id).schedule

    def progress(self, schedule_id: int) -> CardProgress:
        """All that is kept about the part `schedule_id` of a card.

        Raises:
            StoreError: if there is none.
        """
        with explained(self.path):
            row = log.row(self.connection, schedule_id)
        if row is None:
            raise StoreError(f"schedule {schedule_id} is unknown")
        return log.progress(row)

    def progress_of(self, card_id: str) -> list[CardProgress]:
        """What is kept about each part of a card, retired ones too."""
        with explained(self.path):
            return [log.progress(row) for row in log.rows_of_card(self.connection, card_id)]

    def history(self, schedule_id: int) -> list[ReviewRecord]:
        """The answers to one part of a card that were not taken back, oldest first."""
        with explained(self.path):
            return log.history(self.connection, schedule_id)

    def item(self, schedule_id: int) -> tuple[log.Row, StudyItem] | None:
        """The part of a card with its card, and its row as it is now; None if there is none."""
        with explained(self.path):
            found = self.connection.execute(_ITEM, (schedule_id,)).fetchone()
            if found is None:
                return None
            row = found[: log.WIDTH]
            return row, StudyItem(log.progress(row), self.faces.card(found[log.WIDTH]))

    def is_suspended(self, card_id: str) -> bool:
        """Whether no part of the card will come up until it is resumed."""
        return all(part.suspended or part.retired for part in self.progress_of(card_id))

    def set_suspended(self, card_id: str, suspended: bool, *, now: float, calendar: Calendar | None = None) -> None:
        """Suspend or resume all parts of a card. It can be undone."""
        kind = "suspend" if suspended else "unsuspend"
        self._set(card_id, kind, "suspended", int(suspended), now, calendar)

    def set_flag(self, card_id: str, flag: int, *, now: float, calendar: Calendar | None = None) -> None:
        """Flag all parts of a card, 0 to 7; 0 takes the flag away. It can be undone."""
        self._set(card_id, "flag", "flag", flag, now, calendar)

    def _set(self, card_id: str, kind: str, name: str, value: int, now: float, calendar: Calendar | None) -> None:
        with self.transaction() as connection:
            rows = [row for row in log.rows_of_card(connection, card_id) if not row[16]]
            if not rows:
                raise StoreError(f"card '{card_id}' is unknown; `llmquiz search` finds cards")
            log.set_field(connection, name, value, [row[0] for row in rows])
            day = (calendar or Calendar()).day(now)
            log.add_action(connection, kind, rows[0][0], rows, at=now, day=day)

    def deck_counts(self, day: int, now: float, options: Options) -> list[DeckCounts]:
        """What each deck has to offer on the study day `day` at `now`, under the daily limits of `options`."""
        with explained(self.path):
            done = queue.done(self.connection, day)
            return queue.deck_counts(
                self.connection,
                today=day,
                learn_until=now + LEARN_AHEAD_SECONDS,
                new_left=max(options.new_per_day - done.new, 0),
                reviews_left=max(options.reviews_per_day - done.reviews, 0),
            )

    def search(self, query: str, limit: int = 50) -> list[SearchHit]:
        """Cards that hold every word of `query` in either language, in id, topic or tags; all cards if it is empty.

        The first search after an import puts its notes into the index. Where that cannot be written they are not found.
        """
        with explained(self.path):
            waiting = intakewords.pending(self.connection)
        if waiting:
            with suppress(StoreError), self.transaction() as connection:
                intakewords.catch_up(connection)
        with explained(self.path):
            return search.search(self.connection, self.faces, query, limit)

    def add_run(self, run: RunRecord) -> int:
        """Keep a lab run; returns its id."""
        with self.transaction() as connection:
            return runs.add_run(connection, run)

    def runs(self, lab: str | None = None, limit: int = 20) -> list[RunRecord]:
        """The youngest runs first, of one lab or of all."""
        with explained(self.path):
            return runs.runs(self.connection, lab, limit)

    def add_prediction(self, prediction: PredictionRecord) -> int:
        """Keep a guess; returns its id."""
        with self.transaction() as connection:
            return runs.add_prediction(connection, prediction)

    def predictions(self, card: str | None = None, limit: int = 20) -> list[PredictionRecord]:
        """The youngest guesses first, of one card or of all."""
        with explained(self.path):
            return runs.predictions(self.connection, card, limit)
