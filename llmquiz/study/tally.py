"""The counts behind the statistics, each one pass over the database."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from llmquiz.core.card import Lang
from llmquiz.core.day import Calendar
from llmquiz.core.options import Options
from llmquiz.core.rating import Rating
from llmquiz.core.schedule import State
from llmquiz.store import Store
from llmquiz.study.forecast import COUNTED

MATURE_DAYS = 21


@dataclass(frozen=True, slots=True)
class DayTally:
    """The answers of a day, or of several added up. Judged ones count for retention; `new` were a card's very first."""

    reviews: int = 0
    milliseconds: int = 0
    new: int = 0
    young_passed: int = 0
    young_judged: int = 0
    mature_passed: int = 0
    mature_judged: int = 0

    def __add__(self, other: DayTally) -> DayTally:
        return DayTally(
            self.reviews + other.reviews,
            self.milliseconds + other.milliseconds,
            self.new + other.new,
            self.young_passed + other.young_passed,
            self.young_judged + other.young_judged,
            self.mature_passed + other.mature_passed,
            self.mature_judged + other.mature_judged,
        )


@dataclass(frozen=True, slots=True)
class CardStates:
    """Cards by state; a cloze card counts once for each of its deletions. Archived cards are left out."""

    new: int = 0
    learning: int = 0
    young: int = 0
    mature: int = 0
    suspended: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.new + self.learning + self.young + self.mature + self.suspended


@dataclass(frozen=True, slots=True)
class TopicMemory:
    """What is remembered of a topic: `recall` is the mean retrievability of its `seen` cards, None without any."""

    topic: str
    cards: int
    seen: int
    recall: float | None


@dataclass(frozen=True, slots=True)
class HardCard:
    """A card that resists: FSRS difficulty from 1 to 10, and times forgotten."""

    card: str
    deck: str
    difficulty: float
    lapses: int
    fronts: Mapping[Lang, str]


@dataclass(frozen=True, slots=True)
class LabTally:
    """A lab's runs; outcome and claims are those of the last run."""

    lab: str
    runs: int
    last_at: float
    outcome: str
    claims_held: int
    claims: int


def daily(store: Store) -> dict[int, DayTally]:
    """Study day -> its answers."""
    days: defaultdict[int, DayTally] = defaultdict(DayTally)
    for sign, source in ((1, "review"), (-1, "review WHERE id IN (SELECT review FROM undone)")):
        for day, state, rating, count, milliseconds, mature in store.connection.execute(_ANSWERS.format(source)):
            new = count if state == State.NEW else 0
            days[day] += _signed(sign, count, milliseconds, new, _judged(state, rating, count, mature))
    for day, rating, count, mature in store.connection.execute(_REPEATED):
        days[day] += _signed(-1, 0, 0, 0, _judged(State.REVIEW, rating, count, mature))
    return {day: tallied for day, tallied in days.items() if tallied.reviews}


def _judged(state: int, rating: int, count: int, mature: int) -> tuple[int, int, int, int]:
    """Young passed and judged, mature passed and judged, of `count` answers of which `mature` were mature."""
    if state != State.REVIEW:
        return (0, 0, 0, 0)
    young = count - mature
    return (young, young, mature, mature) if Rating(rating).passed else (0, young, 0, mature)


def _signed(sign: int, count: int, milliseconds: int, new: int, judged: tuple[int, int, int, int]) -> DayTally:
    return DayTally(*(sign * number for number in (count, milliseconds, new, *judged)))


def card_states(store: Store) -> CardStates:
    """How many cards are in each state."""
    return CardStates(*(count or 0 for count in store.connection.execute(_STATES).fetchone()))


def topics(store: Store, now: float, calendar: Calendar, options: Options) -> tuple[TopicMemory, ...]:
    """The memory of every topic at `now`, worst first, then the topics not yet begun by name."""
    decay = -options.parameters[20]
    values = {"decay": decay, "factor": 0.9 ** (1 / decay) - 1, "start": calendar.start(calendar.day(now))}
    _ensure_pow(store.connection)
    rows = (TopicMemory(*row) for row in store.connection.execute(_MEMORIES, values))
    return tuple(sorted(rows, key=lambda row: (row.recall is None, row.recall or 0.0, row.topic)))


def _ensure_pow(connection: sqlite3.Connection) -> None:
    """SQLite's math functions are a compile-time choice; where they are missing, Python's does."""
    try:
        connection.execute("SELECT pow(1.0, 1.0)")
    except sqlite3.OperationalError:
        connection.create_function("pow", 2, pow, deterministic=True)


def hardest(store: Store, limit: int = 10) -> tuple[HardCard, ...]:
    """The cards with the highest difficulty, then the most lapses; only cards that were forgotten at least once."""
    return tuple(
        HardCard(card, deck, difficulty, lapses, store.faces.fronts(content))
        for card, deck, difficulty, lapses, content in store.connection.execute(_HARDEST, {"limit": limit})
    )


def labs(store: Store) -> tuple[LabTally, ...]:
    """Each lab that was run, the latest first."""
    rows = store.connection.execute(_LABS)
    return tuple(LabTally(lab, runs, last, outcome, *_claims(claims)) for lab, runs, last, outcome, claims in rows)


def guesses(store: Store) -> list[tuple[float, float]]:
    """Guess and measurement of each scored prediction, as far as both are above zero."""
    return list(store.connection.execute(_GUESSES))


def _claims(text: str) -> tuple[int, int]:
    claims = json.loads(text)
    return sum(bool(claim["held"]) for claim in claims), len(claims)


# The order of the grouping is that of the index `review_day`, which covers the query: a million rows need no sorting.
_ANSWERS = f"""
SELECT day, state, rating, count(*), sum(duration_ms), sum(last_interval >= {MATURE_DAYS})
FROM {{}} GROUP BY day, state, rating
"""
# A retrievability of exactly 1 before the answer says that the card was answered earlier on the same study day. There
# are few of those, and the partial index `review_repeated` holds them alone.
_REPEATED = f"""
SELECT day, rating, count(*), sum(last_interval >= {MATURE_DAYS}) FROM review
WHERE state = {State.REVIEW:d} AND retrievability >= 1 AND id NOT IN (SELECT review FROM undone) GROUP BY day, rating
"""
_STATES = f"""
SELECT sum(state = {State.NEW:d} AND NOT suspended), sum(state IN (1, 3) AND NOT suspended),
       sum(state = {State.REVIEW:d} AND interval < {MATURE_DAYS} AND NOT suspended),
       sum(state = {State.REVIEW:d} AND interval >= {MATURE_DAYS} AND NOT suspended), sum(suspended)
FROM schedule WHERE retired = 0
"""
# The forgetting curve of `llmquiz.core.fsrs`. Days are counted back from the start of today in blocks of 24 hours,
# which a change of the clocks can shift by an hour: nothing that a mean would show.
_MEMORIES = """
SELECT topic, count(*), count(stability),
       avg(CASE WHEN stability > 0 THEN pow(1 + :factor * max(elapsed, 0) / stability, :decay) END)
FROM (SELECT card, stability, CAST((:start - last_review) / 86400 AS INTEGER) + (last_review < :start) AS elapsed
      FROM schedule WHERE retired = 0) AS seen JOIN card ON card.id = seen.card GROUP BY topic
"""
_HARDEST = f"""
SELECT card.id, deck, difficulty, lapses, content
FROM (SELECT card, difficulty, lapses FROM schedule WHERE lapses > 0 AND {COUNTED}
      ORDER BY difficulty DESC, lapses DESC, card LIMIT :limit) AS hard JOIN card ON card.id = hard.card
ORDER BY difficulty DESC, lapses DESC, card.id
"""
_LABS = """
SELECT lab, count(*), max(started_at) AS last_at, outcome, claims FROM run GROUP BY lab ORDER BY last_at DESC
"""
_GUESSES = "SELECT guess, measured FROM prediction WHERE guess > 0 AND measured > 0"
