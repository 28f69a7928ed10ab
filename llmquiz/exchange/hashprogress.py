"""Progress from hashcards' own database, `hashcards.db`: FSRS memory, due dates and every answer, by a card's hash.

Its timestamps are on the clock of the room, without a zone: 2025-10-04T17:09:51.517. hashcards knows no study day that
starts at four in the morning, so its dates are taken as ours.
https://github.com/eudoxia0/hashcards#database
"""

from __future__ import annotations

import math
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

from llmquiz.anki.archive.limits import Limits
from llmquiz.core.day import Calendar
from llmquiz.core.fsrs import STABILITY_MAX, stored
from llmquiz.core.rating import Rating
from llmquiz.core.schedule import Memory, Schedule, State
from llmquiz.deck.reading import printable
from llmquiz.exchange.gather import Findings
from llmquiz.exchange.textfile import MIB
from llmquiz.store.incoming import IncomingPart, IncomingReview

DATABASE = "hashcards.db"
_GRADES = {"forgot": Rating.AGAIN, "hard": Rating.HARD, "good": Rating.GOOD, "easy": Rating.EASY}
_CARDS = """SELECT card_hash, last_reviewed_at, stability, difficulty, interval_days, due_date, review_count FROM cards
WHERE last_reviewed_at IS NOT NULL"""
_REVIEWS = """SELECT card_hash, reviewed_at, grade, stability, difficulty, interval_days FROM reviews
ORDER BY reviewed_at, review_id"""
_LONGEST_TEXT = 1000
_STEPS = 2_000_000_000
"""Instructions of SQLite's machine, some fifty for a row."""
_FIRST, _LAST = date(2000, 1, 1), date(2200, 1, 1)


@dataclass(slots=True)
class Progress:
    """What databases know, by the hash of a card."""

    schedules: dict[str, Schedule] = field(default_factory=dict)
    reviews: dict[str, list[IncomingReview]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.schedules or self.reviews)

    @classmethod
    def of(cls, paths: Sequence[Path], limits: Limits, calendar: Calendar, findings: Findings) -> Progress:
        """What the databases at `paths` know; one that cannot be read is a finding, and its cards come in as new."""
        progress = cls()
        for path in paths:
            one = cls()
            try:
                with _copied(path, limits) as connection:
                    one._take(connection, limits, calendar, findings, printable(str(path)))
                progress.schedules |= one.schedules
                progress.reviews |= one.reviews
            except (sqlite3.Error, OSError, ValueError) as error:  # Python cannot decode some of SQLite's own messages
                problem = "; its cards come in without their progress"
                findings.add(printable(str(path)), f"cannot be read: {' '.join(str(error).split())}{problem}")
        return progress

    def part(self, digits: str, ordinal: int) -> IncomingPart | None:
        """The progress of the card with that hash, as the part `ordinal`; None for a new card."""
        schedule = self.schedules.get(digits)
        if schedule is None:
            return None
        return IncomingPart(ordinal, schedule, reviews=self.reviews.get(digits, ()))

    def _take(
        self, connection: sqlite3.Connection, limits: Limits, calendar: Calendar, findings: Findings, name: str
    ) -> None:
        unusable = 0
        for number, (digits, at, grade, *values) in enumerate(connection.execute(_REVIEWS)):
            if number >= limits.reviews:
                raise _UnusableError(f"more than {limits.reviews:,} reviews; raise reviews in [limits]")
            review = _review(self.reviews.get(digits, ()), at, grade, values, calendar)
            unusable += review is None
            if review:
                self.reviews.setdefault(digits, []).append(review)
        for digits, *values in connection.execute(_CARDS):
            schedule = _schedule(self.reviews.get(digits, ()), values, calendar)
            unusable += schedule is None
            if schedule:
                self.schedules[digits] = schedule
        _part_equal_instants(self.reviews.values())
        if unusable:
            findings.add(name, f"{unusable} rows with values that hashcards does not write; left out")


class _UnusableError(ValueError):
    """A database that is none of hashcards, or too large."""


@contextmanager
def _copied(path: Path, limits: Limits) -> Iterator[sqlite3.Connection]:
    """A private copy, opened so that nothing that its schema holds is run."""
    sizes = [file.stat().st_size for file in _files(path)]
    if sum(sizes) > limits.file_mb * MIB:
        raise _UnusableError(f"larger than {limits.file_mb} MiB; raise file_mb in [limits]")
    with tempfile.TemporaryDirectory(prefix="llmquiz-") as folder:
        for file in _files(path):
            shutil.copyfile(file, Path(folder) / file.name)
        with closing(sqlite3.connect(Path(folder) / path.name)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA query_only = ON")
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MIB)
            connection.text_factory = lambda data: data[:_LONGEST_TEXT].decode("utf-8", "replace")
            _bound(connection)
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not {"cards", "reviews"} <= tables:
                raise _UnusableError("not a database of hashcards")
            yield connection


def _files(path: Path) -> list[Path]:
    """The database, and what a running hashcards has not yet written into it.

    A rollback journal stays behind: it can name another file, which SQLite would then delete.
    """
    log = path.with_name(f"{path.name}-wal")
    return [path, log] if log.is_file() else [path]


def _bound(connection: sqlite3.Connection) -> None:
    """Stop after `_STEPS`: a file can be made so that its pages lead in circles."""
    unit, steps = 100_000, iter(range(_STEPS // 100_000))
    connection.set_progress_handler(lambda: next(steps, None) is None, unit)


def _review(
    earlier: Sequence[IncomingReview], at: object, grade: object, values: Sequence[object], calendar: Calendar
) -> IncomingReview | None:
    instant, rating = _instant(at, calendar), _GRADES.get(str(grade))
    memory, interval = _memory(*values[:2]), _days(values[2])
    if instant is None or rating is None or memory is None or interval is None:
        return None
    return IncomingReview(
        id=round(instant * 1000),
        rating=rating,
        state=State.REVIEW if earlier else State.NEW,
        interval=interval,
        last_interval=earlier[-1].interval if earlier else 0,
        duration_ms=0,
        stability=memory.stability,
        difficulty=memory.difficulty,
    )


def _schedule(reviews: Sequence[IncomingReview], values: Sequence[object], calendar: Calendar) -> Schedule | None:
    last, stability, difficulty, interval, due, count = values
    instant, memory, days, day = _instant(last, calendar), _memory(stability, difficulty), _days(interval), _day(due)
    if instant is None or memory is None or days is None or day is None or not isinstance(count, int):
        return None
    return Schedule(
        state=State.REVIEW,
        due=day,
        interval=max(days, 1),
        memory=memory,
        last_review=instant,
        reps=min(max(count, 1), 1_000_000),
        lapses=sum(review.rating == Rating.AGAIN for review in reviews if review.state is State.REVIEW),
    )


def _part_equal_instants(logs: Iterable[list[IncomingReview]]) -> None:
    """Answers of one millisecond get one each, since that is what a review is called here."""
    taken: set[int] = set()
    for log in logs:
        for number, review in enumerate(log):
            at = review.id
            while at in taken:
                at += 1
            taken.add(at)
            log[number] = review._replace(id=at)


def _instant(value: object, calendar: Calendar) -> float | None:
    """Unix seconds of a timestamp."""
    try:
        at = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    if not _FIRST <= at.date() <= _LAST:
        return None
    return (at if at.tzinfo or calendar.zone is None else at.replace(tzinfo=calendar.zone)).timestamp()


def _day(value: object) -> int | None:
    try:
        day = date.fromisoformat(str(value))
    except ValueError:
        return None
    return day.toordinal() if _FIRST <= day <= _LAST else None


def _days(value: object) -> int | None:
    if isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= STABILITY_MAX:
        return round(value)
    return None


def _memory(stability: object, difficulty: object) -> Memory | None:
    if not isinstance(stability, int | float) or not isinstance(difficulty, int | float):
        return None
    if not (0 < stability <= STABILITY_MAX and 1 <= difficulty <= 10):
        return None
    return stored(Memory(max(float(stability), 0.001), float(difficulty)))
