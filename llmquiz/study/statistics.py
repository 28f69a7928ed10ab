"""What the review log says: retention, streak, activity, memory by topic, hard cards, labs.

Answers that were undone do not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from statistics import median
from typing import Any

from llmquiz.core.day import Calendar
from llmquiz.core.options import Options
from llmquiz.store import Store
from llmquiz.study import tally
from llmquiz.study.forecast import Forecast, forecast
from llmquiz.study.tally import CardStates, DayTally, HardCard, LabTally, TopicMemory

HEAT_DAYS = 371  # 53 weeks: a year's columns, whatever the weekday
SPANS = (("today", 1), ("7d", 7), ("30d", 30), ("all", None))


@dataclass(frozen=True, slots=True)
class Recall:
    """Answers that passed, of those judged."""

    passed: int = 0
    judged: int = 0

    @property
    def rate(self) -> float | None:
        """The share that passed, None where nothing was judged."""
        return self.passed / self.judged if self.judged else None


@dataclass(frozen=True, slots=True)
class Retention:
    """True retention over a span (``today``, ``7d``, ``30d``, ``all``), as Anki defines it.

    Judged is the first answer of a card on a study day, if the card was in review; what was forgotten and learned again
    later that day does not count. Mature cards came back after 21 days or more.
    """

    span: str
    young: Recall
    mature: Recall

    @property
    def total(self) -> Recall:
        """Young and mature together."""
        return Recall(self.young.passed + self.mature.passed, self.young.judged + self.mature.judged)


@dataclass(frozen=True, slots=True)
class Streak:
    """Consecutive study days with an answer. Today does not break the current one before it is over."""

    current: int
    longest: int


@dataclass(frozen=True, slots=True)
class Predictions:
    """How guesses compare with what labs measured.

    Attributes:
        scored: guesses that a lab measured.
        typical_factor: median factor between the two, 1 or more; None without a scored guess.
        lean: median of guess / measured: above 1 the learner guesses high.
    """

    scored: int
    typical_factor: float | None
    lean: float | None


@dataclass(frozen=True, slots=True)
class Statistics:
    """Everything the statistics page shows, as of the instant `at` (Unix seconds) on the study day `day`.

    Attributes:
        today: today's answers.
        all_time: all answers.
        heat: study day -> answers, over the last 53 weeks, days without an answer left out.
        topics: worst remembered first, then the topics not yet begun.
    """

    at: float
    day: int
    today: DayTally
    all_time: DayTally
    retention: tuple[Retention, ...]
    forecast: Forecast
    heat: Mapping[int, int]
    streak: Streak
    cards: CardStates
    topics: tuple[TopicMemory, ...]
    hardest: tuple[HardCard, ...]
    labs: tuple[LabTally, ...]
    predictions: Predictions

    @property
    def empty(self) -> bool:
        """Whether nothing was ever answered and no lab was run."""
        return self.all_time.reviews == 0 and not self.labs


def collect(store: Store, now: float, calendar: Calendar, options: Options, *, days: int = 30) -> Statistics:
    """The statistics at `now` (Unix seconds), with a forecast over `days` study days."""
    today = calendar.day(now)
    history = tally.daily(store)
    return Statistics(
        at=now,
        day=today,
        today=history.get(today, DayTally()),
        all_time=sum(history.values(), DayTally()),
        retention=tuple(_retention(history, span, length, today) for span, length in SPANS),
        forecast=forecast(store, now, calendar, days),
        heat={day: tallied.reviews for day, tallied in history.items() if today - HEAT_DAYS < day <= today},
        streak=streak(history.keys(), today),
        cards=tally.card_states(store),
        topics=tally.topics(store, now, calendar, options),
        hardest=tally.hardest(store),
        labs=tally.labs(store),
        predictions=_predictions(tally.guesses(store)),
    )


def streak(days: Iterable[int], today: int) -> Streak:
    """The streaks in `days`, the study days with an answer."""
    run = longest = current = 0
    last = None
    for day in sorted(days):
        run = run + 1 if last == day - 1 else 1
        longest, last = max(longest, run), day
    if last is not None and last >= today - 1:
        current = run
    return Streak(current, longest)


def _retention(history: Mapping[int, DayTally], span: str, length: int | None, today: int) -> Retention:
    within = (tallied for day, tallied in history.items() if length is None or today - length < day <= today)
    total = sum(within, DayTally())
    return Retention(
        span, Recall(total.young_passed, total.young_judged), Recall(total.mature_passed, total.mature_judged)
    )


def _predictions(pairs: list[tuple[float, float]]) -> Predictions:
    ratios = [guess / measured for guess, measured in pairs]
    if not ratios:
        return Predictions(0, None, None)
    return Predictions(len(ratios), median(max(ratio, 1 / ratio) for ratio in ratios), median(ratios))


def to_json(stats: Statistics) -> dict[str, Any]:
    """The statistics as documented in ``docs/json.md``; dates are ISO, rates from 0 to 1, times in seconds."""
    return {
        "schema": 1,
        "at": datetime.fromtimestamp(stats.at, UTC).isoformat(timespec="seconds"),
        "day": _iso(stats.day),
        "today": _answers(stats.today),
        "all_time": _answers(stats.all_time),
        "retention": {
            row.span: {"young": _recall(row.young), "mature": _recall(row.mature), "total": _recall(row.total)}
            for row in stats.retention
        },
        "forecast": {
            "overdue": stats.forecast.overdue,
            "days": [{"day": _iso(stats.day + i), "due": due} for i, due in enumerate(stats.forecast.due)],
        },
        "activity": [{"day": _iso(day), "reviews": reviews} for day, reviews in sorted(stats.heat.items())],
        "streak": {"current": stats.streak.current, "longest": stats.streak.longest},
        "cards": _fields(stats.cards),
        "topics": [_fields(topic) for topic in stats.topics],
        "hardest": [{**_fields(card), "fronts": dict(card.fronts)} for card in stats.hardest],
        "labs": [{**_fields(lab), "last_at": _instant(lab.last_at)} for lab in stats.labs],
        "predictions": _fields(stats.predictions),
    }


def _answers(tallied: DayTally) -> dict[str, Any]:
    recall = Recall(tallied.young_passed + tallied.mature_passed, tallied.young_judged + tallied.mature_judged)
    return {
        "reviews": tallied.reviews,
        "seconds": round(tallied.milliseconds / 1000, 1),
        "new": tallied.new,
        "retention": _recall(recall),
    }


def _recall(recall: Recall) -> dict[str, Any]:
    return {"passed": recall.passed, "judged": recall.judged, "rate": recall.rate}


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def _iso(day: int) -> str:
    return date.fromordinal(day).isoformat()


def _instant(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
