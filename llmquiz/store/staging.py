"""Schedules and answers on their way into the store: a small database of their own, attached for the merge.

A reader fills it, thousands of rows by one statement where it can; the merge moves them by SQL. What lies in it is
clean: a reader has checked each number, and the tables refuse what the store would.

`part.number` is any number that tells parts apart (of Anki's cards their id). `rank` counts them from 1: a part that
the store lacks gets its schedule's id from it. ``home`` tells the ranks before all else is known of the parts; one is
`own` if the store should have its card already. `schedule` is NULL, or `UNTOLD`. `review.id` is the millisecond of the
answer, `part` the number of its part; answers that share a millisecond with another stand in `late`. A rating of 0 is a
card that was rescheduled by hand, which is no answer. `since` are the milliseconds since the same part was answered
last, NULL for its first answer.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple, TypeAlias

UNTOLD = 0
"""As `part.schedule`: nothing is known of the part; if the store has it already, it stays as it is."""

StagedAnki: TypeAlias = tuple[int, str, int, int, str, str]
"""Of a note: id, guid, note type, modified (Unix seconds), tags parted by spaces, fields (HTML) parted by U+001F."""

_PART = """
CREATE TABLE {schema}.part (
  number INTEGER PRIMARY KEY,
  rank INTEGER NOT NULL,
  note INTEGER NOT NULL,
  ordinal INTEGER NOT NULL CHECK (ordinal BETWEEN 0 AND 2147483647),
  state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 3),
  due INTEGER NOT NULL,
  interval INTEGER NOT NULL CHECK (interval BETWEEN 0 AND 36500),
  steps_left INTEGER NOT NULL CHECK (steps_left BETWEEN 0 AND 2147483647),
  stability REAL, difficulty REAL, last_review REAL,
  reps INTEGER NOT NULL CHECK (reps BETWEEN 0 AND 2147483647),
  lapses INTEGER NOT NULL CHECK (lapses BETWEEN 0 AND 2147483647),
  suspended INTEGER NOT NULL, buried_on INTEGER, flag INTEGER NOT NULL, leech INTEGER NOT NULL,
  anki_id INTEGER, anki_deck INTEGER, factor INTEGER, kept TEXT,
  schedule INTEGER
) STRICT
"""
_HOME = """
CREATE TABLE {schema}.home (
  rank INTEGER PRIMARY KEY, part INTEGER NOT NULL, own INTEGER NOT NULL,
  note INTEGER NOT NULL, ordinal INTEGER NOT NULL, anki_deck INTEGER
) STRICT
"""
_REVIEW = """
CREATE TABLE {schema}.{name} (
  id INTEGER {key}, part INTEGER NOT NULL,
  rating INTEGER NOT NULL CHECK (rating BETWEEN 0 AND 4),
  state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 3),
  interval INTEGER NOT NULL, last_interval INTEGER NOT NULL,
  stability REAL NOT NULL, difficulty REAL NOT NULL,
  duration_ms INTEGER NOT NULL CHECK (duration_ms >= 0),
  type INTEGER, factor INTEGER, since INTEGER
) STRICT
"""


class StagedNote(NamedTuple):
    """A note, ready to be written; its parts lie in the staging database under its `number`.

    Attributes:
        deck: id that the reader gave its deck; the store may know the deck by another.
        kind, level, frequency: values of the enumerations.
        content: as `llmquiz.store.codec` writes it, in that deck.
        ordinals: of its parts; there is a staged part for each.
        keeps_text: only `card` counts: a card that llmquiz exported, whose text is that of our deck.
        anki: what Anki wants back of it.
    """

    number: int
    card: str
    deck: str
    topic: str
    kind: str
    level: str
    frequency: str
    position: int
    content: str
    ordinals: tuple[int, ...]
    keeps_text: bool = False
    anki: StagedAnki | None = None


def create_parts(connection: sqlite3.Connection, schema: str = "main") -> None:
    """Make the table ``part`` in a database of `connection`."""
    connection.execute(_PART.format(schema=schema))


def create_homes(connection: sqlite3.Connection, schema: str = "main") -> None:
    """Make the table ``home`` in a database of `connection`."""
    connection.execute(_HOME.format(schema=schema))
    connection.execute(f"CREATE UNIQUE INDEX {schema}.home_of_part ON home (part, own)")
    connection.execute(f"CREATE UNIQUE INDEX {schema}.home_in_note ON home (note, ordinal)")


def create_reviews(connection: sqlite3.Connection, schema: str = "main") -> None:
    """Make the tables ``review`` and ``late`` in a database of `connection`."""
    connection.execute(_REVIEW.format(schema=schema, name="review", key="PRIMARY KEY"))
    connection.execute(_REVIEW.format(schema=schema, name="late", key="NOT NULL"))
    connection.execute(f"CREATE INDEX {schema}.late_id ON late (id)")
    connection.execute(f"CREATE INDEX {schema}.rescheduled ON review (id) WHERE rating = 0")
