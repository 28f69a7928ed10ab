"""Rows as records, chosen by SQLite itself: a hundred thousand rows are too many to check one by one in Python.

A column of SQLite holds what was put into it, whatever its type says. Old clients stored days with a fraction, and a
hostile file stores text or 2**62 where a day is due, which would overflow a date much later. A fraction is cut off; a
row with anything else out of range is left out. The plus sign before a column takes its affinity away, which could
turn the comparison into one of texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from llmquiz.anki.archive import names
from llmquiz.anki.archive.records import CardRow, ReviewRow
from llmquiz.anki.archive.untrusted import Database

MOST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999, in Unix time: no id and no date is larger."""
_MOST_INT = (1 << 31) - 1
_ID, _DATE = (1, MOST_MS), (-MOST_MS, MOST_MS)
_COUNT, _INTERVAL = (0, _MOST_INT), (-_MOST_INT, _MOST_INT)


class _Table(NamedTuple):
    """Where rows come from: the integer columns with their ranges, a text column perhaps, and the order."""

    name: str
    columns: Mapping[str, tuple[int, int]]
    order: str
    text: str = ""

    @property
    def fits(self) -> str:
        return " AND ".join(f"+{column} BETWEEN {low} AND {high}" for column, (low, high) in self.columns.items())

    @property
    def query(self) -> str:
        chosen = [f"CAST({column} AS INTEGER)" for column in self.columns]
        if self.text:
            chosen.append(f"CASE typeof({self.text}) WHEN 'text' THEN {self.text} ELSE '' END")
        return f"SELECT {', '.join(chosen)} FROM {self.name} NOT INDEXED WHERE {self.fits} ORDER BY {self.order}"

    @property
    def misfits(self) -> str:
        return f"SELECT count(*), min(+id) FROM {self.name} NOT INDEXED WHERE ({self.fits}) IS NOT 1"


_REVIEWS = _Table(
    "revlog",
    {
        "id": _ID,
        "cid": _DATE,
        "ease": (0, 4),
        "ivl": _INTERVAL,
        "lastIvl": _INTERVAL,
        "factor": _COUNT,
        "time": _INTERVAL,
        "type": (0, 5),
    },
    "cid, id",
)
_CARDS = _Table(
    "cards",
    {
        "id": _ID,
        "nid": _DATE,
        "did": _DATE,
        "ord": (0, 9999),
        "mod": _DATE,
        "type": (0, 3),
        "queue": (-3, 4),
        "due": _DATE,
        "ivl": _INTERVAL,
        "factor": _COUNT,
        "reps": _COUNT,
        "lapses": _COUNT,
        "left": _COUNT,
        "odue": _DATE,
        "odid": _DATE,
        "flags": _COUNT,
    },
    "nid, ord, id",
    "data",
)


def reviews(source: Database, tally: names.Tally) -> Iterator[ReviewRow]:
    """The log, ordered by card and id."""
    _tell(source, _REVIEWS, "answer", tally)
    return map(ReviewRow._make, source.rows(_REVIEWS.query))


def cards(source: Database, tally: names.Tally) -> Iterator[CardRow]:
    """The cards, ordered by note, ordinal and id."""
    _tell(source, _CARDS, "card", tally)
    return map(CardRow._make, source.rows(_CARDS.query))


def _tell(source: Database, table: _Table, what: str, tally: names.Tally) -> None:
    count, first = source.row(table.misfits) or (0, 0)
    if count:
        tally.add("left out, a column has a value that no Anki writes", f"{what} {first}", count)
