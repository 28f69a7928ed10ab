"""Whose schedule of a card stands after a merge: that of the program that asked it last.

A card that was neither answered nor touched here may also change without an answer: its due day, flag or suspension was
then set in the other program. One that the learner suspended here does not wake up because an old file is read again.
"""

from __future__ import annotations

import sqlite3
from functools import cached_property
from typing import Any, TypeAlias

Row: TypeAlias = tuple[Any, ...]

_SAME_SECONDS = 1.0  # other programs keep whole seconds
_CARD, _STABILITY, _DIFFICULTY, _LAST_REVIEW, _BURIED = 1, 7, 8, 9, 13  # places in `log.COLUMNS`
_FIRST, _LAST = 3, 16  # the schedule is in between
_ROUNDED = {_STABILITY: 1e-3, _DIFFICULTY: 1e-2, _LAST_REVIEW: _SAME_SECONDS}
_NEVER = float("-inf")


class Judge:
    """Compares the rows of `schedule` with what is to come in their place."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def applies(self, row: Row, columns: Row) -> bool:
        """Whether `columns`, from `state` to `leech`, are to be written over `row`."""
        here, there = row[_LAST_REVIEW] or _NEVER, columns[_LAST_REVIEW - _FIRST] or _NEVER
        if there > here + _SAME_SECONDS:
            return True
        if there < here - _SAME_SECONDS or row[_CARD] in self._touched:
            return False
        return not _is_same(row[_FIRST:_LAST], columns)

    @cached_property
    def _touched(self) -> set[str]:
        """Cards of which a part was answered, suspended, buried or flagged here: one action may change them all."""
        rows = self._connection.execute("SELECT DISTINCT card FROM action JOIN schedule ON schedule.id = schedule")
        return {row[0] for row in rows}


def _is_same(stored: Row, columns: Row) -> bool:
    """Whether two schedules say the same, as far as other programs keep numbers; a burial ends by itself."""
    for place, (one, other) in enumerate(zip(stored, columns, strict=True), start=_FIRST):
        if one == other or place == _BURIED:
            continue
        if place not in _ROUNDED or one is None or other is None or abs(one - other) > _ROUNDED[place]:
            return False
    return True
