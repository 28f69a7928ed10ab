"""What Anki's cards do not say themselves: a memory and a last answer where Anki had no FSRS, taken from the log.

It is computed when the log is staged, which takes longer than anything else. Numbers that the store would refuse are
brought into its ranges on the same way.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from llmquiz.anki.archive.columns import integer
from llmquiz.anki.archive.definitions import DEFAULT
from llmquiz.anki.archive.reading import Tables
from llmquiz.anki.archive.records import ReviewRow
from llmquiz.anki.archive.untrusted import Database
from llmquiz.anki.importing import naming
from llmquiz.anki.importing.days import DAYS, instant
from llmquiz.anki.importing.sm2 import Recaller, is_answer
from llmquiz.core.day import Calendar
from llmquiz.core.errors import ScheduleError
from llmquiz.core.options import DAY_SECONDS
from llmquiz.core.schedule import State
from llmquiz.store.soundness import CENTURY

_AMISS = f"""
SELECT number, state, part.due, interval, stability, difficulty, last_review, anki_deck, {integer("mod")} AS modified,
  {integer("cards.factor")} AS factor, {integer("ivl")} AS told
FROM part CROSS JOIN cards NOT INDEXED ON cards.id = part.number
WHERE number > ?4 AND state <> {State.NEW:d} AND (stability IS NULL OR last_review IS NULL OR last_review > ?1
  OR part.due > iif(state = {State.REVIEW:d}, ?2, ?3) OR interval = {CENTURY})
ORDER BY number LIMIT 10000
"""
_UNTOLD = f"""
SELECT number FROM part WHERE state <> {State.NEW:d} AND (stability IS NULL OR last_review IS NULL)
"""
_LOG = """
SELECT id, part, rating, interval, last_interval, factor, duration_ms, type FROM review
WHERE part IN (SELECT part FROM temp.wanted) ORDER BY part, id
"""
_MEND = """
UPDATE part SET due = ?1, stability = ?2, difficulty = ?3, last_review = ?4,
kept = json_set(kept, '$.was', json_array(?1, ?2, ?3, ?4, reps)) WHERE number = ?5
"""


class _Amiss(NamedTuple):
    """A staged part that lacks something, or may have a number out of range; the last three are its card's own."""

    number: int
    state: int
    due: int
    interval: int
    stability: float | None
    difficulty: float | None
    last_review: float | None
    deck: int
    modified: int
    factor: int
    told: int


class Past:
    """Completes the staged parts of one collection.

    Attributes:
        findings: what was computed or brought into range.
    """

    def __init__(self, tables: Tables, calendar: Calendar, now: float) -> None:
        """`now`: Unix seconds."""
        self.findings: list[str] = []
        self._tables = tables
        self._calendar = calendar
        self._recalled = self._mended = 0
        self._now = now
        self._latest = now + DAY_SECONDS  # as the store has it: clocks differ, but not by more
        self._last_day = calendar.day(now) + CENTURY
        self._last_instant = int(now) + CENTURY * DAY_SECONDS
        self._recallers: dict[int, Recaller] = {}

    def complete(self, source: Database, log: Callable[[], Path], go_on: Callable[[], None]) -> None:
        """Give every part what it lacks.

        Args:
            source: has the table ``part``, and the cards of the collection.
            log: gives the database with the staged answers; asked only if a part lacks something.
            go_on: called before each part that lacks something; raises if nobody waits for it any more.
        """
        after = -1
        untold = [number for (number,) in source.rows(_UNTOLD)]
        with closing(_Logs(log() if untold else None, untold)) as logs:
            while rows := [*source.rows(_AMISS, (self._latest, self._last_day, self._last_instant, after))]:
                source.run_many(_MEND, [self._completed(_Amiss(*row), logs, go_on) for row in rows])
                after = rows[-1][0]
        if self._mended:
            self.findings.append(f"schedules with numbers out of range, brought into it: {self._mended:,}")
        if self._recalled:
            self.findings.append(
                f"{self._recalled:,} cards had no FSRS memory; it was computed from their answers, else from their ease"
            )

    def _completed(self, part: _Amiss, logs: _Logs, go_on: Callable[[], None]) -> tuple[float, ...]:
        go_on()
        stability, difficulty, last_review = part.stability, part.difficulty, part.last_review
        if stability is None or difficulty is None or last_review is None:
            log = logs.of(part.number)
            if stability is None or difficulty is None:
                self._recalled += 1
                memory = self._recaller(part.deck).memory(log, part.factor, part.told)
                stability, difficulty = memory.stability, memory.difficulty
            if last_review is None:
                last_review = self._last_answer(part, log)
        most = self._last_day if part.state == State.REVIEW else self._last_instant
        if not 0 < last_review <= self._latest or part.due > most or part.told > CENTURY:
            self._mended += 1
            part = part._replace(due=min(part.due, most))
            if not 0 < last_review <= self._latest:
                last_review = self._guess(part)
        return part.due, stability, difficulty, last_review, part.number

    def _last_answer(self, part: _Amiss, log: Sequence[ReviewRow]) -> float:
        answered = next((instant(it.id / 1000) for it in reversed(log) if is_answer(it)), None)
        if answered is not None:
            return answered
        if part.state == State.REVIEW:
            day = min(part.due - part.interval, self._calendar.day(instant(part.modified)))
            return self._calendar.start(max(day, DAYS[0])) + DAY_SECONDS / 2
        return min(instant(part.modified), float(part.due))

    def _guess(self, part: _Amiss) -> float:
        """A moment that the due day speaks for."""
        if part.state == State.REVIEW:
            guess = self._calendar.start(max(part.due - part.interval, DAYS[0]))
        else:
            guess = float(part.due)
        return min(max(guess, 1.0), self._now)

    def _recaller(self, deck_id: int) -> Recaller:
        deck = self._tables.decks.get(deck_id) or self._tables.decks.get(DEFAULT)
        preset = self._tables.presets.get(deck.preset) if deck else None
        key = preset.id if preset else 0
        if key not in self._recallers:
            kept = preset.legacy.get("sm2Retention") if preset else None
            retention = kept if isinstance(kept, float) else 0.9
            try:
                made = Recaller(preset.parameters if preset else (), self._calendar, retention)
            except ScheduleError as error:
                assert preset is not None  # the weights of no preset are the defaults
                self.findings.append(f"preset '{naming.safe(preset.name)}': {error}; the defaults were used")
                made = Recaller((), self._calendar, retention)
            self._recallers[key] = made
        return self._recallers[key]


class _Logs:
    """The answers of some parts in the order of their numbers, each oldest first.

    Args:
        path: the database with the staged answers; None if no part will be asked for.
        parts: that will be asked for.
    """

    def __init__(self, path: Path | None, parts: Sequence[int]) -> None:
        self._connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro" if path else ":memory:", uri=True)
        self._connection.execute("CREATE TEMP TABLE wanted (part INTEGER PRIMARY KEY)")
        self._connection.executemany("INSERT INTO wanted VALUES (?)", [(part,) for part in parts])
        rows = map(ReviewRow._make, self._connection.execute(_LOG) if parts else ())
        self._groups = groupby(rows, key=attrgetter("card"))
        self._next = next(self._groups, None)

    def of(self, part: int) -> list[ReviewRow]:
        """Ask for each part once, in order."""
        if self._next is None or self._next[0] != part:
            return []
        rows = list(self._next[1])
        self._next = next(self._groups, None)
        return rows

    def close(self) -> None:
        self._connection.close()
