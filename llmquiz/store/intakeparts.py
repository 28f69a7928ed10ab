"""The parts of notes, by SQL: new ones are added all at once, known ones judged where anything about them differs.

Which schedule a part became is left in a table of the scratch schema, for the log.
"""

from __future__ import annotations

import sqlite3
from typing import Any, TypeAlias

from llmquiz.core.schedule import State
from llmquiz.store import log
from llmquiz.store.intakejudge import Judge
from llmquiz.store.intakespace import SCRATCH, fetch
from llmquiz.store.soundness import UNPLACED_PARTS, Findings
from llmquiz.store.staging import UNTOLD

_Row: TypeAlias = tuple[Any, ...]

_CHUNK = 2000
_STATE, _DUE = 3, 4  # places in `log.COLUMNS`
_COLUMNS = (
    "state", "due", "interval", "steps_left", "stability", "difficulty", "last_review", "reps", "lapses", "suspended",
    "buried_on", "flag", "leech",
)  # fmt: skip
_ANKI = ("anki_id", "anki_deck", "factor", "kept")

_TARGET = f"CREATE TABLE {SCRATCH}.target (part INTEGER PRIMARY KEY, schedule INTEGER NOT NULL) STRICT"
# CROSS JOIN keeps the order of the tables: parts are read through, all else is looked up by its key.
_TAKEN_PARTS = f"FROM {{arriving}}.part CROSS JOIN {SCRATCH}.taken ON taken.note = part.note"
_ADD = f"""
INSERT INTO main.schedule
SELECT :base + part.rank, taken.card, part.ordinal, part.state, iif(part.state = {State.NEW:d}, taken.place, part.due),
  {", ".join(f"part.{name}" for name in _COLUMNS[2:])}, 0
{_TAKEN_PARTS} WHERE taken.newest ON CONFLICT (card, ordinal) DO NOTHING
"""
_POINT_TO_ADDED = f"INSERT INTO {SCRATCH}.target SELECT part.number, :base + part.rank {_TAKEN_PARTS}"
_POINT = f"""
INSERT INTO {SCRATCH}.target SELECT min(part.number), here.id {_TAKEN_PARTS}
CROSS JOIN main.schedule AS here ON here.card = taken.card AND here.ordinal = part.ordinal GROUP BY here.id
"""
_ADD_CARDS = f"""
INSERT INTO main.anki_card SELECT target.schedule, {", ".join(f"part.{name}" for name in _ANKI)}
FROM {SCRATCH}.target CROSS JOIN {{arriving}}.part ON part.number = target.part
WHERE target.schedule > :base AND part.anki_id IS NOT NULL
"""
_LEFT_OUT = f"""
SELECT count(*) {_TAKEN_PARTS}
WHERE part.schedule IS NOT {UNTOLD} AND part.number NOT IN (SELECT part FROM {SCRATCH}.target)
"""


def _differing() -> str:
    """Known parts, in the order of their numbers, that are not the same to the last digit.

    The columns are those of `log.COLUMNS` and of `anki_card`, then what is to come in their place.
    """
    arriving, foreign = (", ".join(f"part.{name}" for name in names) for names in (_COLUMNS, _ANKI))
    compared = [name for name in _COLUMNS if name not in ("due", "buried_on")]
    here, there = (", ".join(f"{table}.{name}" for name in compared) for table in ("schedule", "part"))
    return f"""
    SELECT {log.COLUMNS}, anki.id, anki.deck, anki.factor, anki.kept, {arriving}, taken.newest, taken.own, {foreign},
      target.part
    FROM {SCRATCH}.target CROSS JOIN {{arriving}}.part ON part.number = target.part
    CROSS JOIN {SCRATCH}.taken ON taken.note = part.note
    CROSS JOIN main.schedule ON schedule.id = target.schedule
    LEFT JOIN main.anki_card AS anki ON anki.schedule = schedule.id
    WHERE target.part > :after AND target.schedule <= :base AND part.schedule IS NOT {UNTOLD}
    AND NOT (({here}) IS ({there}) AND (part.state = {State.NEW:d} OR schedule.due = part.due)
      AND (taken.own OR part.anki_id IS NULL OR (anki.id, anki.deck, anki.factor, anki.kept) IS ({foreign})))
    ORDER BY target.part LIMIT {_CHUNK}
    """


_DIFFERING = _differing()
_CHANGE = f"UPDATE schedule SET {', '.join(f'{name} = ?' for name in _COLUMNS)} WHERE id = ?"
_WRITE_CARD = "INSERT OR REPLACE INTO anki_card VALUES (?, ?, ?, ?, ?)"


class Parts:
    """Takes in the parts of one import, once its notes are written.

    Attributes:
        base: the highest id of a schedule before; a new part's is `base` and its rank.
        changed: how many known parts got another schedule.
        renewed: of how many others something else is kept now that only the other program wants back.
        as_foretold: whether all that have a schedule are new, and have the id that is foretold by their rank.
    """

    def __init__(self, connection: sqlite3.Connection, findings: Findings) -> None:
        self._connection = connection
        self._findings = findings
        self._judge = Judge(connection)
        self.base: int = connection.execute("SELECT coalesce(max(id), 0) FROM schedule").fetchone()[0]
        self.changed = self.renewed = 0
        self.as_foretold = False
        connection.execute(_TARGET)

    def take(self, arriving: str, *, known: bool) -> None:
        """Add what is new and compare the rest.

        Args:
            arriving: the schema with the table ``part``.
            known: whether the store had any of the notes.
        """
        added = self._run(_ADD, arriving)
        self.as_foretold = not known and self._run(_POINT_TO_ADDED, arriving) == added
        if not self.as_foretold:
            self._connection.execute(f"DELETE FROM {SCRATCH}.target")
            self._run(_POINT, arriving)
            self._tell_left_out(arriving)
        self._run(_ADD_CARDS, arriving)
        if known:
            self._compare(arriving)

    def _run(self, sql: str, arriving: str) -> int:
        return self._connection.execute(sql.format(arriving=arriving), {"base": self.base}).rowcount

    def _tell_left_out(self, arriving: str) -> None:
        number = self._connection.execute(_LEFT_OUT.format(arriving=arriving)).fetchone()[0]
        self._findings.count(UNPLACED_PARTS, number)

    def _compare(self, arriving: str) -> None:
        after, sql = -(2**63), _DIFFERING.format(arriving=arriving)
        while rows := fetch(self._connection, sql, {"after": after, "base": self.base}):
            after = rows[-1][-1]
            schedules: list[_Row] = []
            cards: list[_Row] = []
            for row in rows:
                self._merge(row, schedules, cards)
            self.renewed += len({card[0] for card in cards} - {schedule[-1] for schedule in schedules})
            self._connection.executemany(_CHANGE, schedules)
            self._connection.executemany(_WRITE_CARD, cards)
            self.changed += len(schedules)

    def _merge(self, row: _Row, schedules: list[_Row], cards: list[_Row]) -> None:
        """What is to be written of a part; where ours stands and is another, only its deck in Anki may be new."""
        at = log.WIDTH + len(_ANKI)
        here, kept, columns = row[: log.WIDTH], row[log.WIDTH : at], row[at : at + len(_COLUMNS)]
        newest, own, *anki, _ = row[at + len(_COLUMNS) :]
        if columns[0] == State.NEW:  # its due is its place in the queue
            columns = (columns[0], here[_DUE], *columns[2:])
        applies = self._judge.applies(here, columns)
        if applies:
            schedules.append((*columns, here[0]))
        if own or anki[0] is None:
            return
        is_same = newest and here[_STATE : _STATE + len(columns)] == columns
        if (applies or is_same or kept[0] is None) and kept != tuple(anki):
            cards.append((here[0], *anki))
        elif newest and not applies and kept[1] != anki[1]:
            cards.append((here[0], kept[0], anki[1], *kept[2:]))
