"""What is due: the rows that a study queue is built from, in their order, and each deck's counts.

`NOT suspended AND NOT retired` stands in every query in the words of the partial index `schedule_queue`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llmquiz.core.card import Lang
from llmquiz.core.mix import mix
from llmquiz.core.options import DAY_SECONDS
from llmquiz.core.schedule import State
from llmquiz.store.records import DeckCounts

_READY = "suspended = 0 AND retired = 0"
_NOT_BURIED = "(buried_on IS NULL OR buried_on <> :today)"
_SALT_MASK = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Filter:
    """Which cards a query is about; empty means all. `card` asks for one card, whether it is due or not."""

    decks: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    card: str | None = None

    @property
    def everything(self) -> bool:
        return not (self.decks or self.topics or self.card)


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A part of a card that may be studied. `due` as in `core.schedule`."""

    schedule: int
    card: str
    state: State
    due: int
    last_review: float | None


@dataclass(frozen=True, slots=True)
class Done:
    """How many new cards and reviews count against the limits of a day."""

    new: int
    reviews: int


def learning(connection: sqlite3.Connection, before: float, today: int, scope: Filter) -> Iterator[QueueRow]:
    """Cards in (re)learning that are due before the instant `before`, the earliest first."""
    return _rows(connection, "state IN (1, 3) AND due < :before", "due, schedule.id", scope, today, before=before)


def reviews(connection: sqlite3.Connection, until: int, today: int, scope: Filter) -> Iterator[QueueRow]:
    """Reviews due up to the study day `until`: by day, and within a day in an order that the day `today` decides."""
    order = f"due, (schedule.id * {mix(today) & _SALT_MASK | 1}) & {_SALT_MASK}"
    return _rows(connection, "state = 2 AND due <= :until", order, scope, today, until=until)


def new(connection: sqlite3.Connection, today: int, scope: Filter, *, shuffle: bool) -> Iterator[QueueRow]:
    """New cards in the order of their decks, or in an order that the day `today` decides."""
    order = f"(schedule.id * {mix(~today) & _SALT_MASK | 1}) & {_SALT_MASK}" if shuffle else "due, schedule.id"
    return _rows(connection, "state = 0", order, scope, today)


def clock_was_ahead(connection: sqlite3.Connection, now: float) -> bool:
    """Whether the log holds answers of more than a day after `now`: they were given while the clock was wrong."""
    return bool(connection.execute("SELECT max(id) > ? FROM review", (_ms_ahead(now),)).fetchone()[0])


def stranded(connection: sqlite3.Connection, now: float, until: int, today: int, scope: Filter) -> Iterator[QueueRow]:
    """Cards answered while the clock was more than a day ahead of `now`; they would not come back for as long.

    When they are due nobody knows, so they are due now. Those that are due up to the study day `until` are left out.
    """
    condition = "state <> 0 AND last_review > :ahead AND NOT (state = 2 AND due <= :until)"
    return _rows(connection, condition, "last_review", scope, today, ahead=_ms_ahead(now) / 1000, until=until)


def _ms_ahead(now: float) -> float:
    return (now + DAY_SECONDS) * 1000


def done(connection: sqlite3.Connection, day: int) -> Done:
    """What was studied on `day`: first answers, and answers to cards that were due on a day rather than at a second."""
    sql = """SELECT total(state = 0), total(state = 2 OR (state IN (1, 3) AND last_interval > 0))
    FROM live_review WHERE day = ?"""
    new_cards, reviewed = connection.execute(sql, (day,)).fetchone()
    return Done(int(new_cards), int(reviewed))


def deck_counts(
    connection: sqlite3.Connection, *, today: int, learn_until: float, new_left: int, reviews_left: int
) -> list[DeckCounts]:
    """What each deck has to offer, each capped by what the day's limits leave."""
    values = {"today": today, "learn_until": learn_until}
    due = {row[0]: row[1:] for row in connection.execute(_DUE_BY_DECK, values)}
    for deck, count in _stranded_by_deck(connection, learn_until, today):
        new_cards, in_learning, reviewable = due.get(deck, (0, 0, 0))
        due[deck] = (new_cards, in_learning, reviewable + count)
    totals = connection.execute("SELECT deck, count(*) FROM card WHERE archived_at IS NULL GROUP BY deck")
    total = dict(totals.fetchall())
    decks = connection.execute(
        "SELECT id, title_en, title_zh FROM deck WHERE archived_at IS NULL ORDER BY position, id"
    )
    counts = []
    for deck, title_en, title_zh in decks.fetchall():
        titles = {lang: title for lang, title in ((Lang.EN, title_en), (Lang.ZH, title_zh)) if title}
        new_cards, in_learning, reviewable = due.get(deck, (0, 0, 0))
        capped_new, capped_due = min(new_cards, new_left), min(reviewable, reviews_left)
        counts.append(DeckCounts(deck, titles, capped_new, in_learning, capped_due, total.get(deck, 0)))
    return counts


# CROSS JOIN keeps the order of the tables: a few due rows look up their card, never all cards their rows.
_READY_CARDS = f"FROM schedule CROSS JOIN card ON card.id = schedule.card WHERE {_READY} AND {_NOT_BURIED}"

# Parts of one card count once while new: the second is buried when the first is answered.
_DUE_BY_DECK = f"""
SELECT deck, sum(new), sum(learning), sum(due) FROM (
  SELECT deck, count(DISTINCT schedule.card) AS new, 0 AS learning, 0 AS due
  {_READY_CARDS} AND state = 0 GROUP BY deck
  UNION ALL
  SELECT deck, 0, count(*), 0 {_READY_CARDS} AND state IN (1, 3) AND due <= :learn_until GROUP BY deck
  UNION ALL
  SELECT deck, 0, 0, count(*) {_READY_CARDS} AND state = 2 AND due <= :today GROUP BY deck
) GROUP BY deck
"""


def _stranded_by_deck(connection: sqlite3.Connection, now: float, today: int) -> Iterator[tuple[str, int]]:
    if clock_was_ahead(connection, now):
        condition = "state <> 0 AND last_review > :ahead AND NOT (state = 2 AND due <= :today)"
        sql = f"SELECT deck, count(*) {_READY_CARDS} AND {condition} GROUP BY deck"
        yield from connection.execute(sql, {"today": today, "ahead": _ms_ahead(now) / 1000})


def _rows(
    connection: sqlite3.Connection, condition: str, order: str, scope: Filter, today: int, **values: float
) -> Iterator[QueueRow]:
    limits, wanted = _scope(scope)
    source = "schedule" if scope.everything or scope.card else "schedule JOIN card ON card.id = schedule.card"
    sql = f"""SELECT schedule.id, schedule.card, state, due, last_review FROM {source}
    WHERE {_READY} AND {_NOT_BURIED} AND {condition} {limits} ORDER BY {order}"""
    for row in connection.execute(sql, {"today": today, **values, **wanted}):
        yield QueueRow(row[0], row[1], State(row[2]), row[3], row[4])


def _scope(scope: Filter) -> tuple[str, dict[str, Any]]:
    conditions, values = "", dict[str, Any]()
    for column, names in (("deck", scope.decks), ("topic", scope.topics)):
        if names:
            marks = {f"{column}{number}": name for number, name in enumerate(names)}
            conditions += f" AND card.{column} IN ({', '.join(f':{mark}' for mark in marks)})"
            values |= marks
    if scope.card:
        conditions += " AND schedule.card = :card"
        values["card"] = scope.card
    return conditions, values
