"""The log of a collection → the staging tables of answers, by SQL and in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from llmquiz.anki.archive import names
from llmquiz.anki.archive.columns import REVIEWS, integer, tell
from llmquiz.anki.archive.limits import Limits
from llmquiz.anki.archive.untrusted import Database
from llmquiz.anki.importing.beside import Beside
from llmquiz.core.errors import ImportFileError
from llmquiz.core.schedule import State
from llmquiz.store import staging

LONGEST = 30 * 3_600_000
"""Milliseconds. `since` says no more than this, even of years: whoever asks wants to know if it was the same day."""

_TABLES = """
CREATE TEMP TABLE ordered (part INTEGER, id INTEGER);
CREATE TEMP TABLE start (part INTEGER, id INTEGER, since INTEGER);
CREATE TEMP TABLE near (id INTEGER PRIMARY KEY, since INTEGER);
CREATE TEMP TABLE gone (part INTEGER PRIMARY KEY);
CREATE TEMP TABLE unusual (part INTEGER PRIMARY KEY);
CREATE TEMP TABLE renewed (part INTEGER PRIMARY KEY, id INTEGER);
CREATE TEMP TABLE mistaken (id INTEGER PRIMARY KEY)
"""
# Rows of the types 4 and 5 are no answers: they moved a card, by hand or by a new computation. The state NEW marks
# those of them that made it new again.
_COPY = f"""
INSERT OR IGNORE INTO review SELECT
  {integer("id")}, {integer("cid")}, CASE WHEN +type < 4 THEN {integer("ease")} ELSE 0 END,
  CASE {integer("type")}
    WHEN 0 THEN {State.LEARNING:d}
    WHEN 2 THEN {State.RELEARNING:d}
    WHEN 4 THEN CASE WHEN +ease < 1 AND +factor < 1 THEN {State.NEW:d} ELSE {State.REVIEW:d} END
    ELSE {State.REVIEW:d}
  END,
  {integer("ivl")}, {integer("lastIvl")}, 0, 0, max({integer("time")}, 0),
  {integer("type")}, {integer("factor")}, {LONGEST}
FROM revlog NOT INDEXED WHERE {REVIEWS.fits} ORDER BY id
"""
_SHARED = f"""
SELECT min(id) FROM (
  SELECT {integer("id")} AS id FROM revlog NOT INDEXED WHERE {REVIEWS.fits} GROUP BY 1 HAVING count(*) > 1)
"""

# Each card's answers by their time: what stands before an answer is the one before.
_ORDERED = "INSERT INTO ordered SELECT part, id FROM review WHERE rating > 0 ORDER BY part, id"
_START = f"""
INSERT INTO start
SELECT later.part, later.id, CASE WHEN later.part = earlier.part THEN later.id - earlier.id END
FROM ordered AS later LEFT JOIN ordered AS earlier ON earlier.rowid = later.rowid - 1
WHERE earlier.part IS NOT later.part OR later.id - earlier.id < {LONGEST}
"""
_GONE = """
INSERT INTO gone
SELECT part FROM (SELECT part FROM start WHERE since IS NULL UNION SELECT part FROM review WHERE rating = 0)
WHERE part NOT IN (SELECT coalesce(+cards.id, 0) FROM cards NOT INDEXED)
"""
_WITHOUT_GONE = "DELETE FROM review WHERE part IN (SELECT part FROM gone)"
_FIRST = f"""
UPDATE review SET since = NULL, state = CASE type WHEN 0 THEN {State.NEW:d} ELSE state END
WHERE id IN (SELECT id FROM start WHERE since IS NULL)
"""
_NEAR = "INSERT INTO near SELECT id, since FROM start WHERE since IS NOT NULL ORDER BY id"
_SINCE = """
UPDATE review SET since = (SELECT since FROM near WHERE near.id = review.id) WHERE id IN (SELECT id FROM near)
"""

# A card that was made new has a first answer again, and one that was only studied ahead (type 3) still has none.
_AHEAD = """
INSERT INTO unusual SELECT start.part FROM start CROSS JOIN review ON review.id = start.id
WHERE start.since IS NULL AND type = 3
"""
_RENEWED = f"""
INSERT INTO renewed
SELECT part, min(id) FROM review WHERE rating = 0 AND type = 4 AND state = {State.NEW:d} GROUP BY part
"""
_LEARNED_AGAIN = """
INSERT OR IGNORE INTO unusual SELECT part FROM review
WHERE type = 0 AND id > (SELECT renewed.id FROM renewed WHERE renewed.part = review.part)
"""
_MISTAKEN = f"""
INSERT INTO mistaken SELECT id FROM (
  SELECT id, type, state = {State.NEW:d} AS new,
    coalesce(max(CASE WHEN type < 3 AND rating > 0 THEN id END) OVER before, 0) AS learned,
    coalesce(max(CASE WHEN type = 4 AND state = {State.NEW:d} THEN id END) OVER before, 0) AS renewed
  FROM review WHERE part IN (SELECT part FROM unusual)
  WINDOW before AS (PARTITION BY part ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
) WHERE type = 0 AND new <> (learned <= renewed)
"""
_MENDED = f"""
UPDATE review SET state = CASE state WHEN {State.NEW:d} THEN {State.LEARNING:d} ELSE {State.NEW:d} END
WHERE id IN (SELECT id FROM mistaken)
"""


class LogStaging(Beside):
    """Fills a database with the tables ``review`` and ``late`` from the log of a collection.

    All rows in range whose card exists are there, `part` being the card's id; ``late`` stays empty. Of a row that is
    no answer (rating 0) `state` and `since` mean nothing.
    """

    def __init__(self, collection: Path, error: Callable[[str], ImportFileError], limits: Limits, target: Path) -> None:
        super().__init__(collection, error, limits, target)
        self._left_out: list[str] = []

    def told(self) -> list[str]:
        """What was left out, once it is filled; waits and raises as `result` does."""
        self.result()
        return self._left_out

    def _fill(self, source: Database) -> None:
        self._copy(source)
        self._complete(source)

    def _copy(self, source: Database) -> None:
        """All rows in range."""
        source.check_plain(("revlog", "cards"))
        count = source.count("revlog")
        if count > self._limits.reviews:
            raise self._error(f"{count:,} reviews, more than {self._limits.reviews:,} (limits.reviews)")
        source.make(staging.create_reviews)
        copied = self._run(source, _COPY)
        if copied == count:
            return
        tally = names.Tally(self._left_out)
        fitting = count - tell(source, REVIEWS, tally)
        if copied < fitting:
            (first,) = source.row(_SHARED) or (0,)
            tally.add("left out, another answer has the same id", f"answer {first}", fitting - copied)
        tally.flush()

    def _complete(self, source: Database) -> None:
        """What a row tells only together with others: the time since the last answer, and if it was the first."""
        for table in _TABLES.split(";"):
            self._run(source, table)
        self._run(source, _ORDERED)
        self._run(source, _START)
        if self._run(source, _GONE):
            count = self._run(source, _WITHOUT_GONE)
            self._left_out.append(f"{count:,} answers are of cards that are gone; left out")
        self._run(source, _FIRST)
        self._run(source, _NEAR)
        self._run(source, _SINCE)
        unusual = self._run(source, _AHEAD)
        if self._run(source, _RENEWED):
            unusual += self._run(source, _LEARNED_AGAIN)
        if unusual:
            self._run(source, _MISTAKEN)
            self._run(source, _MENDED)
