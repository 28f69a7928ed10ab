"""What the store holds of each kind, for a report of before and after."""

from __future__ import annotations

import sqlite3

from llmquiz.store.incoming import Counts

_COUNTS = """SELECT
(SELECT count(*) FROM deck WHERE archived_at IS NULL),
(SELECT count(*) FROM card WHERE archived_at IS NULL),
(SELECT count(*) FROM schedule WHERE retired = 0),
(SELECT count(*) FROM review) - (SELECT count(*) FROM undone),
(SELECT count(*) FROM media)"""


def counts(connection: sqlite3.Connection) -> Counts:
    """Decks and cards that are not archived, the parts of cards that are scheduled, answers that stand, and media."""
    return Counts(*connection.execute(_COUNTS).fetchone())
