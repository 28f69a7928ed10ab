"""What was learned, as Markdown: for each card a table of its answers, its experiments and its guesses.

Made to be read in years, by eyes alone: every number has its unit in the head of its column, and times say their zone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmquiz.core.card import Card
from llmquiz.core.day import Calendar
from llmquiz.core.rating import Rating
from llmquiz.core.schedule import State
from llmquiz.exchange.librarycsv import day, instant
from llmquiz.exchange.opencard import one_line

Row = tuple[Any, ...]

SCHEDULE = "id, ordinal, state, due, interval, stability, difficulty, reps, lapses, suspended, flag, leech, retired"
REVIEW = (
    "review.id, rating, review.state, review.interval, review.stability, review.difficulty, retrievability, "
    "duration_ms, undone.at"
)
RUN = "started_at, lab, outcome, seconds, device, metrics, error"
PREDICTION = "at, metric, guess, measured, score"
_REVIEWS = (
    "answered",
    "rating",
    "before",
    "interval",
    "stability (days)",
    "difficulty (1-10)",
    "recall before",
    "time (s)",
)
_RUNS = ("started", "lab", "outcome", "time (s)", "device", "measured")
_PREDICTIONS = ("guessed", "metric", "guess", "measured", "verdict")


@dataclass(slots=True)
class Past:
    """What the store knows of one card; rows have the columns named above."""

    schedules: list[Row] = field(default_factory=list)
    reviews: dict[int, list[Row]] = field(default_factory=dict)  # by schedule
    runs: list[Row] = field(default_factory=list)
    predictions: list[Row] = field(default_factory=list)


def card_history(card: Card, past: Past, calendar: Calendar) -> Iterator[str]:
    """The lines about one card; none if nothing ever happened to it."""
    if not (past.reviews or past.runs or past.predictions):
        return
    front = next(iter(card.texts.values())).front
    yield f"## {one_line(front)} (`{card.id}`)"
    yield ""
    for row in past.schedules:
        answers = past.reviews.get(row[0], [])
        if answers or len(past.schedules) == 1:
            yield _state(row, calendar, several=len(past.schedules) > 1)
            yield ""
            yield from _table(_REVIEWS, [_review(answer, calendar) for answer in answers])
    if past.runs:
        yield "Experiments:"
        yield ""
        yield from _table(_RUNS, [run_cells(run, calendar) for run in past.runs])
    if past.predictions:
        yield "Guesses:"
        yield ""
        yield from _table(_PREDICTIONS, [_prediction(guess, calendar) for guess in past.predictions])


def runs_table(runs: Sequence[Row], calendar: Calendar) -> Iterator[str]:
    """A table of lab runs."""
    yield from _table(_RUNS, [run_cells(run, calendar) for run in runs])


def run_cells(run: Row, calendar: Calendar) -> list[str]:
    """The cells of one lab run."""
    started, lab, outcome, seconds, device, metrics, error = run
    return [_moment(started, calendar), lab, outcome, _number(seconds), device, error or _metrics(metrics)]


def _state(row: Row, calendar: Calendar, *, several: bool) -> str:
    _, ordinal, state, due, interval, stability, difficulty, reps, lapses, suspended, flag, leech, retired = row
    where = State(state)
    facts = [f"Part {ordinal}: {where.name.lower()}" if several else where.name.capitalize()]
    if where is State.REVIEW:
        facts += [f"due {day(due)}", f"interval {interval} days"]
    elif where is not State.NEW:
        facts.append(f"due {_moment(due, calendar)}")
    if stability is not None:
        facts += [f"stability {_number(stability)} days", f"difficulty {_number(difficulty)}"]
    facts += [f"answers {reps}", f"lapses {lapses}"]
    facts += [word for word, holds in (("suspended", suspended), ("leech", leech), ("retired", retired)) if holds]
    return ", ".join(facts + ([f"flag {flag}"] if flag else []))


def _review(row: Row, calendar: Calendar) -> list[str]:
    number, rating, state, interval, stability, difficulty, recall, duration, undone = row
    return [
        _moment(number / 1000, calendar),
        Rating(rating).name.lower() + (" (undone)" if undone is not None else ""),
        State(state).name.lower(),
        _interval(interval),
        _number(stability or None),
        _number(difficulty or None),
        "" if recall is None else f"{recall:.0%}",
        f"{duration / 1000:.1f}",
    ]


def _prediction(row: Row, calendar: Calendar) -> list[str]:
    at, metric, guess, measured, score = row
    return [_moment(at, calendar), metric, _number(guess), _number(measured), score or ""]


def _interval(interval: int) -> str:
    """An interval of the log, with its unit."""
    if interval >= 0:
        return f"{interval} d"
    return f"{-interval // 60} min" if interval <= -60 else f"{-interval} s"


def _moment(at: float, calendar: Calendar) -> str:
    """``2026-11-22 18:03 +01:00``."""
    text = instant(at, calendar)
    return f"{text[:10]} {text[11:16]} {text[19:]}" if text else ""


def _metrics(text: str) -> str:
    metrics = json.loads(text)
    if not isinstance(metrics, dict):
        return str(metrics)
    return ", ".join(f"{name} {_number(value)}" for name, value in metrics.items())


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if not rows:
        return
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"
    yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
