"""Another program's answers into the log, each once, by SQL: appended in the order of their time.

An answer is known by its card and its millisecond, so that a second import finds it again; one that was taken back here
stays taken back. What claims a millisecond that another part's answer has is left to `llmquiz.store.intakeclashes`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from llmquiz.core.day import Calendar
from llmquiz.core.schedule import State
from llmquiz.store.intakeclashes import ANSWERS, CHANGES, Clashes
from llmquiz.store.intakedays import DAY_MS, stretches
from llmquiz.store.intakespace import SCRATCH
from llmquiz.store.soundness import EARLIEST_MS, Findings

_STUDY_DAY = "study_day_of_ms"
# CROSS JOIN: the staged answers are read in their order, which is that of the log.
_FROM = """
FROM {source} AS it CROSS JOIN {target}
WHERE it.id >= :first AND it.id < :end AND {which}
ORDER BY it.id, it.rowid ON CONFLICT (id) DO NOTHING
"""
# As in our own log: recall is certain, and tells nothing, on the day of another answer.
_ADD_ANSWERS = f"""
INSERT INTO main.review
SELECT it.id, {{schedule}}, {{day}}, it.rating, it.state, it.interval, it.last_interval, it.stability, it.difficulty,
  iif(it.state = {State.REVIEW:d} AND {{repeated}}, 1.0, NULL), it.duration_ms, it.type, it.factor {_FROM}
"""
_EVEN = {"day": f":day + (it.id - :start) / {DAY_MS}", "repeated": f"it.since <= (it.id - :start) % {DAY_MS}"}
_ODD = {"day": f"{_STUDY_DAY}(it.id)", "repeated": f"{_STUDY_DAY}(it.id - it.since) = {_STUDY_DAY}(it.id)"}
_ADD_CHANGES = f"""
INSERT INTO main.anki_reschedule
SELECT it.id, {{schedule}}, it.interval, it.last_interval, coalesce(it.factor, 0), it.duration_ms,
  coalesce(it.type, 4) {_FROM}
"""

# What was added before the parts, as far as their schedules could be foretold by their ranks; and what is left then.
_MISTAKEN = f"""
SELECT :base + home.rank FROM {{homes}}.home LEFT JOIN {SCRATCH}.target ON target.part = home.part
WHERE NOT home.own AND target.schedule IS NOT :base + home.rank
"""
_ALL_THERE = f"""
SELECT (SELECT count(*) FROM {{homes}}.home) = (SELECT count(*) FROM {SCRATCH}.target)
AND NOT EXISTS (SELECT 1 FROM {{homes}}.home WHERE own)
"""
_TAKE_BACK = f"DELETE FROM main.review WHERE schedule IN ({_MISTAKEN})"
_REST = f"CREATE TABLE {SCRATCH}.rest (part INTEGER PRIMARY KEY, schedule INTEGER NOT NULL) STRICT"
_POINT_REST = f"""
INSERT INTO {SCRATCH}.rest
SELECT target.part, target.schedule FROM {SCRATCH}.target
LEFT JOIN {{homes}}.home ON home.part = target.part AND home.own = 0
WHERE target.schedule IS NOT :base + home.rank
"""


class _Target(NamedTuple):
    """Where the schedule of an answer is read: a table, joined to it by its part, and the expression for the id."""

    target: str
    schedule: str = "target.schedule"


_SETTLED = _Target(f"{SCRATCH}.target ON target.part = it.part")
_LEFT = _Target(f"{SCRATCH}.rest AS target ON target.part = it.part")
_FORETOLD = _Target("{homes}.home AS target ON target.part = it.part AND target.own = 0", ":base + target.rank")


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
        self._base = 0
        self.added = 0

    def take_early(self, arriving: str, homes: str, base: int) -> None:
        """Add what is new before the parts are there themselves; `take` adds the rest.

        No SQL of it calls Python, whose lock another thread may have. On odd days nothing is added, therefore.

        Args:
            arriving: the schema with the tables ``review`` and ``late``; `homes`: with the table ``home``.
            base: what is added to a rank to get the schedule's id.
        """
        self._early, self._base = homes, base
        target = _FORETOLD._replace(target=_FORETOLD.target.format(homes=homes))
        self.added += self._add_answers(f"{arriving}.review", even=target, odd=None)

    def take(self, arriving: str, *, as_foretold: bool = False) -> None:
        """Add what is new.

        Args:
            arriving: the schema with the tables ``review`` and ``late``.
            as_foretold: whether each part that has a schedule now has the one that its rank foretold.
        """
        names = (f"{arriving}.review", f"{arriving}.late")
        staged = {name: self._scalar(f"SELECT count(*) FROM {name}") or 0 for name in names}
        sources = [name for name, count in staged.items() if count]
        early = self._settle(self._early, as_foretold) if self._early else _SETTLED
        with self._calendar_in_sql():
            for source, even in zip(names, (early, _SETTLED), strict=True):
                if source in sources:
                    self._tell_left_out(source)
                    self.added += self._add_answers(source, even=even, odd=_SETTLED)
        if self.added == sum(staged.values()):
            return
        changes = sum(map(self._add_changes, sources))
        if self.added + changes < sum(staged.values()):
            clashes = Clashes(self._connection, self._calendar, sources, self._findings)
            self.added += clashes.place(ANSWERS, self._end)
            clashes.place(CHANGES, self._end)

    def _settle(self, homes: str, as_foretold: bool) -> _Target | None:
        """Take back what belongs to parts that became nothing, or another schedule; where those left are, if any."""
        if as_foretold and self._scalar(_ALL_THERE.format(homes=homes)):
            return None
        base = {"base": self._base}
        mistaken = _MISTAKEN.format(homes=homes)
        if self._connection.execute(f"SELECT EXISTS ({mistaken})", base).fetchone()[0]:
            self.added -= self._connection.execute(_TAKE_BACK.format(homes=homes), base).rowcount
        self._connection.execute(_REST)
        return _LEFT if self._connection.execute(_POINT_REST.format(homes=homes), base).rowcount else None

    def _add_answers(self, source: str, *, even: _Target | None, odd: _Target | None) -> int:
        """How many were added on days of the one kind and the other; none where there is no target."""
        first = self._scalar(f"SELECT min(id) FROM {source} WHERE id >= ?", (EARLIEST_MS,))
        last = self._scalar(f"SELECT max(id) FROM {source} WHERE id < ?", (self._end,))
        if first is None or last is None:
            return 0
        added = 0
        for piece in stretches(self._calendar, first, last):
            target, how = (odd, _ODD) if piece.day is None else (even, _EVEN)
            if target:
                sql = _ADD_ANSWERS.format(source=source, which=ANSWERS.which, **how, **target._asdict())
                added += self._connection.execute(sql, piece._asdict() | {"base": self._base}).rowcount
        return added

    def _add_changes(self, source: str) -> int:
        sql = _ADD_CHANGES.format(source=source, which=CHANGES.which, **_SETTLED._asdict())
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
