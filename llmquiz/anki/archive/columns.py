"""Which rows fit, told by SQLite itself: a hundred thousand rows are too many to check one by one in Python.

A column of SQLite holds what was put into it, whatever its type says. Old clients stored days with a fraction, and a
hostile file stores text or 2**62 where a day is due, which would overflow a date much later. A fraction is cut off; a
row with anything else out of range is left out. The plus sign before a column takes its affinity away, which could
turn the comparison into one of texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from llmquiz.anki.archive import names
from llmquiz.anki.archive.untrusted import Database

MOST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999, in Unix time: no id and no date is larger."""
_MOST_INT = (1 << 31) - 1
_ID, _DATE = (1, MOST_MS), (-MOST_MS, MOST_MS)
_COUNT, _INTERVAL = (0, _MOST_INT), (-_MOST_INT, _MOST_INT)


class Table(NamedTuple):
    """A table of a collection: its integer columns with their ranges.

    Attributes:
        what: a row is, as a finding names it.
    """

    name: str
    what: str
    columns: Mapping[str, tuple[int, int]]

    @property
    def fits(self) -> str:
        """The condition in SQL that every column is in range."""
        return " AND ".join(f"+{column} BETWEEN {low} AND {high}" for column, (low, high) in self.columns.items())

    @property
    def misfits(self) -> str:
        """The query for how many rows are not, and the first one's id."""
        return f"SELECT count(*), min(+id) FROM {self.name} NOT INDEXED WHERE ({self.fits}) IS NOT 1"


REVIEWS = Table(
    "revlog",
    "answer",
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
)
CARDS = Table(
    "cards",
    "card",
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
)


def integer(column: str) -> str:
    """`column` in SQL without the fraction that old clients stored."""
    return f"CAST({column} AS INTEGER)"


def tell(source: Database, table: Table, tally: names.Tally) -> int:
    """Say how many rows are left out because a column is out of range."""
    count, first = source.row(table.misfits) or (0, 0)
    if count:
        tally.add("left out, a column has a value that no Anki writes", f"{table.what} {first}", count)
    return int(count)
