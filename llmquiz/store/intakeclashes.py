"""Answers whose millisecond another part's answer has: each gets the next free one, and a repeated import finds it.

Two programs may have asked in one millisecond, and some keep whole seconds. A displaced answer is known by its content.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from llmquiz.core.day import Calendar
from llmquiz.core.schedule import State
from llmquiz.store.intakespace import SCRATCH, fetch
from llmquiz.store.soundness import Findings

_Row: TypeAlias = tuple[Any, ...]

_FARTHEST = 32  # milliseconds; nobody answers so many cards at once
_CHUNK = 2000
_LOWEST = -(2**63)

_CLASHING = f"""
SELECT it.rowid, it.id, target.schedule, it.since, {{columns}}
FROM {{source}} AS it CROSS JOIN {SCRATCH}.target ON target.part = it.part
CROSS JOIN main.{{name}} AS stored ON stored.id = it.id
WHERE (it.id, it.rowid) > (:id, :row) AND it.id < :end AND {{which}} AND stored.schedule <> target.schedule
ORDER BY it.id, it.rowid LIMIT {_CHUNK}
"""
_OWN = f"""
SELECT 1 FROM {{source}} AS it CROSS JOIN {SCRATCH}.target ON target.part = it.part
WHERE it.id = ? AND {{which}} AND target.schedule = ?
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A log of the store, and what of the staged rows belongs there.

    Attributes:
        which: condition for staged rows.
        columns: what a row has besides `id` and `schedule` (of answers also `day` and `retrievability`), by the column
            of the store: of a staged row.
        telling: how many of these, the first ones, tell one row from another.
    """

    name: str
    which: str
    columns: dict[str, str]
    telling: int


_TOLD = ("rating", "state", "interval", "last_interval", "duration_ms")
ANSWERS = Table(
    "review",
    "it.rating > 0",
    {name: f"it.{name}" for name in _TOLD}
    | {"anki_type": "it.type", "anki_factor": "it.factor", "stability": "it.stability", "difficulty": "it.difficulty"},
    len(_TOLD) + 2,
)
CHANGES = Table(
    "anki_reschedule",
    "it.rating = 0",
    {name: f"it.{name}" for name in ("interval", "last_interval", "duration_ms")}
    | {"factor": "coalesce(it.factor, 0)", "type": "coalesce(it.type, 4)"},
    5,
)


class Clashes:
    """Places the answers of one import that clash, once all others are written."""

    def __init__(
        self, connection: sqlite3.Connection, calendar: Calendar, sources: Sequence[str], findings: Findings
    ) -> None:
        """`sources`: the staged tables, with their schemas."""
        self._connection = connection
        self._calendar = calendar
        self._sources = sources
        self._findings = findings

    def place(self, table: Table, end: int) -> int:
        """Add to `table` what it lacks of them, as far as they are from before the millisecond `end`; how many."""
        names = [*table.columns][: table.telling]
        find = f"SELECT schedule, {', '.join(names)} FROM main.{table.name} WHERE id = ?"
        claimed: set[int] = set()
        added = 0
        for source in self._sources:
            for at, schedule, since, *values in self._clashing(table, source, end):
                wanted = (schedule, *values[: table.telling])
                for free in range(at + 1, at + 1 + _FARTHEST):
                    stored = self._connection.execute(find, (free,)).fetchone()
                    if stored is None:
                        self._add(table, free, schedule, at, since, values)
                        added += 1
                    elif free in claimed or stored != wanted or self._stands_there(table, free, schedule):
                        continue
                    claimed.add(free)
                    break
                else:
                    self._findings.count("answers given in the same moment as many others, left out")
        return added

    def _clashing(self, table: Table, source: str, end: int) -> Iterator[_Row]:
        columns = ", ".join(table.columns.values())
        sql = _CLASHING.format(columns=columns, source=source, name=table.name, which=table.which)
        place = {"id": _LOWEST, "row": _LOWEST, "end": end}
        while rows := fetch(self._connection, sql, place):
            yield from (row[1:] for row in rows)
            place |= {"row": rows[-1][0], "id": rows[-1][1]}

    def _stands_there(self, table: Table, at: int, schedule: int) -> bool:
        """Whether the import has an answer to the same part at just this millisecond: then it is not the displaced."""
        return any(
            self._connection.execute(_OWN.format(source=source, which=table.which), (at, schedule)).fetchone()
            for source in self._sources
        )

    def _add(self, table: Table, free: int, schedule: int, at: int, since: int | None, values: Sequence[Any]) -> None:
        row = {"id": free, "schedule": schedule} | dict(zip(table.columns, values, strict=True))
        if table is ANSWERS:
            day = row["day"] = self._calendar.day(at / 1000)
            repeated = since is not None and self._calendar.day((at - since) / 1000) == day
            row["retrievability"] = 1.0 if repeated and row["state"] == State.REVIEW else None
        names = ", ".join(row)
        marks = ", ".join(f":{name}" for name in row)
        self._connection.execute(f"INSERT INTO main.{table.name} ({names}) VALUES ({marks})", row)
