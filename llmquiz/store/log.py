"""What the user did, appended and never changed: answers, suspensions, burials, flags, and their undoing.

Each action keeps the rows of `schedule` that it changed, as they were, so undoing puts back exactly those. An undone
answer stays in the log and is named in `undone`; the view `live_review` leaves it out. What was merged from another
program is a barrier: the rows that an older action kept are not those that stand now, so it cannot be taken back.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from llmquiz.core.rating import Rating
from llmquiz.core.schedule import Memory, Schedule, State
from llmquiz.store.records import CardProgress, ReviewRecord

UNDO_DEPTH = 30
_BARRIER = "undo barrier"

Row: TypeAlias = tuple[Any, ...]
"""A row of `schedule`: the columns of `COLUMNS`."""

_NAMES = (
    "id", "card", "ordinal", "state", "due", "interval", "steps_left", "stability", "difficulty", "last_review",
    "reps", "lapses", "suspended", "buried_on", "flag", "leech", "retired",
)  # fmt: skip
_STATES = tuple(State)
_KEPT = _NAMES[3:16]
COLUMNS = ", ".join(f"schedule.{name}" for name in _NAMES)
WIDTH = len(_NAMES)

_SELECT = f"SELECT {COLUMNS} FROM schedule WHERE id = ?"
_RESTORE = f"UPDATE schedule SET {', '.join(f'{name} = ?' for name in _KEPT)} WHERE id = ?"
_to_json = json.JSONEncoder(separators=(",", ":")).encode
_ADD_REVIEW = "INSERT INTO review VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)"
_NEXT_FREE = """SELECT min(id) + 1 FROM review AS taken
WHERE id >= ? AND NOT EXISTS (SELECT 1 FROM review WHERE id = taken.id + 1)"""
_ADD_ACTION = "INSERT INTO action (at, day, kind, schedule, review, before) VALUES (?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class UndoneAction:
    """An action that was taken back: its kind (``rate``, ``suspend``, …) and the parts of cards that it had changed."""

    kind: str
    schedule: int
    restored: tuple[int, ...]
    rating: Rating | None
    day: int


def row(connection: sqlite3.Connection, schedule: int) -> Row | None:
    """The row of `schedule`; None if there is none."""
    found: Row | None = connection.execute(_SELECT, (schedule,)).fetchone()
    return found


def rows_of_card(connection: sqlite3.Connection, card_id: str) -> list[Row]:
    """The rows of all parts of a card, retired ones too."""
    return connection.execute(f"SELECT {COLUMNS} FROM schedule WHERE card = ? ORDER BY ordinal", (card_id,)).fetchall()


def progress(row: Row) -> CardProgress:
    """The row as a record."""
    stability, difficulty = row[7], row[8]
    memory = None if stability is None else Memory(stability, difficulty)
    schedule = Schedule(_STATES[row[3]], row[4], row[5], row[6], memory, row[9], row[10], row[11])
    return CardProgress(row[0], row[1], row[2], schedule, bool(row[12]), row[13], row[14], bool(row[15]), bool(row[16]))


def add_review(connection: sqlite3.Connection, review: ReviewRecord) -> int:
    """Append an answer; if its millisecond is taken it gets the next free one. Returns its id."""
    values = (
        review.schedule,
        review.day,
        review.rating.value,
        review.state.value,
        review.interval,
        review.last_interval,
        review.memory.stability if review.memory else 0.0,
        review.memory.difficulty if review.memory else 0.0,
        review.retrievability,
        review.duration_ms,
    )
    try:
        connection.execute(_ADD_REVIEW, (review.id, *values))
    except sqlite3.IntegrityError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
            raise
        free: int = connection.execute(_NEXT_FREE, (review.id,)).fetchone()[0]
        connection.execute(_ADD_REVIEW, (free, *values))
        return free
    return review.id


def write_schedule(
    connection: sqlite3.Connection, before: Row, after: Schedule, *, leech: bool, suspended: bool
) -> None:
    """Put `after` in the place of the row `before`; leech and suspended are set, never taken away."""
    memory = after.memory
    connection.execute(
        _RESTORE,
        (
            after.state.value,
            after.due,
            after.interval,
            after.steps_left,
            memory.stability if memory else None,
            memory.difficulty if memory else None,
            after.last_review,
            after.reps,
            after.lapses,
            int(suspended or before[12]),
            before[13],
            before[14],
            int(leech or before[15]),
            before[0],
        ),
    )


def set_field(connection: sqlite3.Connection, name: str, value: int | None, schedules: Sequence[int]) -> None:
    """Set ``suspended``, ``buried_on`` or ``flag`` of some schedules."""
    connection.executemany(
        f"UPDATE schedule SET {name} = ? WHERE id = ?", [(value, schedule) for schedule in schedules]
    )


def add_action(
    connection: sqlite3.Connection,
    kind: str,
    schedule: int,
    before: Sequence[Row],
    *,
    at: float,
    day: int,
    review: int | None = None,
) -> None:
    """Append an action, with the rows that it changed as they were."""
    kept = _to_json([(row[0], *row[3:16]) for row in before])
    connection.execute(_ADD_ACTION, (at, day, kind, schedule, review, kept))


def undo_last(connection: sqlite3.Connection, *, at: float, day: int) -> UndoneAction | None:
    """Take back the youngest action since the barrier; None if there is none, or after `UNDO_DEPTH` in a row."""
    action = _last_standing(connection)
    if action is None:
        return None
    action_id, kind, schedule, review, before, action_day = action
    rows = json.loads(before)
    connection.executemany(_RESTORE, [(*kept, schedule_id) for schedule_id, *kept in rows])
    rating = None
    if review is not None:
        connection.execute("INSERT INTO undone VALUES (?, ?)", (review, int(at)))
        rating = Rating(connection.execute("SELECT rating FROM review WHERE id = ?", (review,)).fetchone()[0])
    connection.execute(
        "INSERT INTO action (at, day, kind, schedule, before, undoes) VALUES (?, ?, 'undo', ?, '[]', ?)",
        (at, day, schedule, action_id),
    )
    return UndoneAction(kind, schedule, tuple(kept[0] for kept in rows), rating, action_day)


def _last_standing(connection: sqlite3.Connection) -> Row | None:
    in_a_row = connection.execute(
        "SELECT count(*) FROM action WHERE id > (SELECT coalesce(max(id), 0) FROM action WHERE kind <> 'undo')"
    ).fetchone()[0]
    if in_a_row >= UNDO_DEPTH:
        return None
    found: Row | None = connection.execute(
        """SELECT id, kind, schedule, review, before, day FROM action
        WHERE kind <> 'undo' AND id NOT IN (SELECT undoes FROM action WHERE undoes IS NOT NULL)
        AND id > coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key = ?), 0)
        ORDER BY id DESC LIMIT 1""",
        (_BARRIER,),
    ).fetchone()
    return found


def bar_undo(connection: sqlite3.Connection) -> None:
    """Whatever was done until now stays done."""
    connection.execute(
        """INSERT INTO meta SELECT ?, coalesce(max(id), 0) FROM action WHERE true
        ON CONFLICT (key) DO UPDATE SET value = excluded.value""",
        (_BARRIER,),
    )


def history(connection: sqlite3.Connection, schedule: int) -> list[ReviewRecord]:
    """The answers that stand, oldest first. Reads the log through: an index by card would cost each answer a page."""
    rows = connection.execute("SELECT * FROM live_review WHERE schedule = ? ORDER BY id", (schedule,))
    return [
        ReviewRecord(
            id=r[0],
            schedule=r[1],
            day=r[2],
            rating=Rating(r[3]),
            state=State(r[4]),
            interval=r[5],
            last_interval=r[6],
            memory=Memory(r[7], r[8]) if r[7] else None,
            retrievability=r[9],
            duration_ms=r[10],
        )
        for r in rows
    ]
