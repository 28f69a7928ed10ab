"""Another program's answers into the log, each once, by SQL: appended in the order of their time.

An answer is known by its card and its millisecond, so that a second import finds it again; one that was taken back here
stays taken back. What claims a millisecond that another part's answer has is left to `llmquiz.store.intakeclashes`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from llmquiz.core.day import Calendar
from llmquiz.core.schedule import State
from llmquiz.store.intakeclashes import ANSWERS, CHANGES, Clashes
from llmquiz.store.intakedays import DAY_MS, stretches
from llmquiz.store.intakespace import SCRATCH
from llmquiz.store.soundness import EARLIEST_MS, Findings

_STUDY_DAY = "study_day_of_ms"
# CROSS JOIN: the staged answers are read in their order, which is that of the log.
_FROM = f"""
FROM {{source}} AS it CROSS JOIN {SCRATCH}.{{target}} AS target ON target.part = it.part
WHERE it.id >= :first AND it.id < :end AND {{which}}
ORDER BY it.id, it.rowid ON CONFLICT (id) DO NOTHING
"""
# As in our own log: recall is certain, and tells nothing, on the day of another answer.
_ADD_ANSWERS = f"""
INSERT INTO main.review
SELECT it.id, target.schedule, {{day}}, it.rating, it.state, it.interval, it.last_interval, it.stability, it.difficulty,
  iif(it.state = {State.REVIEW:d} AND {{repeated}}, 1.0, NULL), it.duration_ms, it.type, it.factor {_FROM}
"""
_EVEN = {"day": f":day + (it.id - :start) / {DAY_MS}", "repeated": f"it.since <= (it.id - :start) % {DAY_MS}"}
_ODD = {"day": f"{_STUDY_DAY}(it.id)", "repeated": f"{_STUDY_DAY}(it.id - it.since) = {_STUDY_DAY}(it.id)"}
_ADD_CHANGES = f"""
INSERT INTO main.anki_reschedule
SELECT it.id, target.schedule, it.interval, it.last_interval, coalesce(it.factor, 0), it.duration_ms,
  coalesce(it.type, 4) {_FROM}
"""

# What was added before the parts, as far as their schedules could be foretold by their ranks; and what is left then.
_POINTERS = f"CREATE TABLE {SCRATCH}.{{name}} (part INTEGER PRIMARY KEY, schedule INTEGER NOT NULL) STRICT"
_POINT_EARLY = f"INSERT INTO {SCRATCH}.early SELECT part, :base + rank FROM {SCRATCH}.rank"
_MISTAKEN = f"""
SELECT early.schedule FROM {SCRATCH}.early LEFT JOIN {SCRATCH}.target ON target.part = early.part
WHERE target.schedule IS NOT early.schedule
"""
_TAKE_BACK = f"DELETE FROM main.review WHERE schedule IN ({_MISTAKEN})"
_POINT_REST = f"""
INSERT INTO {SCRATCH}.rest
SELECT target.part, target.schedule FROM {SCRATCH}.target LEFT JOIN {SCRATCH}.early ON early.part = target.part
WHERE target.schedule IS NOT early.schedule
"""


class Log:
    """Takes in the answers of one import, once its parts are written.

    Attributes:
        added: how many answers the log lacked.
    """

    def __init__(self, connection: sqlite3.Connection, calendar: Calendar, latest_ms: int, findings: Findings) -> None:
        """`latest_ms`: an answer from after this millisecond is left out."""
        self._connection = connection
        self._calendar = calendar
        self._findings = findings
        self._end = latest_ms + 1
        self._early: str | None = None
        self.added = 0

    def take_early(self, arriving: str, base: int) -> None:
        """Add what is new of the parts in the table ``rank``, before they are there themselves; `take` adds the rest.

        No SQL of it calls Python, whose lock another thread may have. On odd days nothing is added, therefore.

        Args:
            arriving: the schema with the tables ``review`` and ``late``.
            base: what is added to a rank to get the schedule's id.
        """
        self._connection.execute(_POINTERS.format(name="early"))
        self._connection.execute(_POINT_EARLY, {"base": base})
        self._early = f"{arriving}.review"
        self.added += self._add_answers(self._early, even="early", odd=None)

    def take(self, arriving: str) -> None:
        """Add what is new; `arriving` is the schema with the tables ``review`` and ``late``."""
        names = (f"{arriving}.review", f"{arriving}.late")
        staged = {name: self._scalar(f"SELECT count(*) FROM {name}") or 0 for name in names}
        sources = [name for name, count in staged.items() if count]
        rest = self._settle() if self._early else None
        with self._calendar_in_sql():
            for source in sources:
                self._tell_left_out(source)
                self.added += self._add_answers(source, even=rest if source == self._early else "target", odd="target")
        if self.added == sum(staged.values()):
            return
        changes = sum(map(self._add_changes, sources))
        if self.added + changes < sum(staged.values()):
            clashes = Clashes(self._connection, self._calendar, sources, self._findings)
            self.added += clashes.place(ANSWERS, self._end)
            clashes.place(CHANGES, self._end)

    def _settle(self) -> str | None:
        """Take back what belongs to parts that became nothing, or another schedule; the table that has parts left."""
        if self._scalar(f"SELECT EXISTS ({_MISTAKEN})"):
            self.added -= self._connection.execute(_TAKE_BACK).rowcount
        self._connection.execute(_POINTERS.format(name="rest"))
        return "rest" if self._connection.execute(_POINT_REST).rowcount else None

    def _add_answers(self, source: str, *, even: str | None, odd: str | None) -> int:
        """How many were added; `even` and `odd` name the table with the schedules to be used on such days, if any."""
        first = self._scalar(f"SELECT min(id) FROM {source} WHERE id >= ?", (EARLIEST_MS,))
        last = self._scalar(f"SELECT max(id) FROM {source} WHERE id < ?", (self._end,))
        if first is None or last is None:
            return 0
        added = 0
        for piece in stretches(self._calendar, first, last):
            target, how = (odd, _ODD) if piece.day is None else (even, _EVEN)
            if target:
                sql = _ADD_ANSWERS.format(source=source, target=target, which=ANSWERS.which, **how)
                added += self._connection.execute(sql, piece._asdict()).rowcount
        return added

    def _add_changes(self, source: str) -> int:
        sql = _ADD_CHANGES.format(source=source, target="target", which=CHANGES.which)
        return self._connection.execute(sql, {"first": EARLIEST_MS, "end": self._end}).rowcount

    def _tell_left_out(self, source: str) -> None:
        for which, end in (("id < ?", EARLIEST_MS), ("id >= ?", self._end)):
            number = self._scalar(f"SELECT count(*) FROM {source} WHERE {which}", (end,))
            self._findings.count("answers dated in the future or before 1970, left out", number or 0)

    def _scalar(self, sql: str, values: tuple[int, ...] = ()) -> int | None:
        number: int | None = self._connection.execute(sql, values).fetchone()[0]
        return number

    @contextmanager
    def _calendar_in_sql(self) -> Iterator[None]:
        def day(at: int | None) -> int | None:
            return None if at is None else self._calendar.day(at / 1000)

        self._connection.create_function(_STUDY_DAY, 1, day, deterministic=True)
        try:
            yield
        finally:
            self._connection.create_function(_STUDY_DAY, 1, None)
