"""The library as tables for a spreadsheet: cards, schedules, reviews, lab runs and predictions, a file each.

A spreadsheet runs a cell that starts with ``=`` as a formula, whoever wrote it. So a text that starts like one gets an
apostrophe in front. One that starts with an apostrophe gets another, so taking one away always gives the text back.
"""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from llmquiz import target
from llmquiz.core.card import Card, CardText, Lang
from llmquiz.core.day import Calendar
from llmquiz.core.rating import Rating
from llmquiz.core.schedule import State
from llmquiz.exchange.chosen import chosen_decks, marks
from llmquiz.exchange.csvcolumns import COLUMNS, Column
from llmquiz.exchange.libraryjson import snapshot
from llmquiz.store import Store
from llmquiz.store.database import explained

Progress = Callable[[int], None]
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'", "＝", "＋", "－", "＠")
_EVERY = 1000  # rows between two calls for the progress bar


@dataclass(slots=True)
class CsvReport:
    """What was written: rows of each file, and bytes in all."""

    rows: dict[str, int] = field(default_factory=dict)
    bytes: int = 0


def count(connection: sqlite3.Connection) -> int:
    """Rows of all files for all decks, for a progress bar."""
    tables = ("card", "schedule", "review", "run", "prediction")
    return sum(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables)


def export(
    store: Store,
    decks: Sequence[str],
    out: Path,
    *,
    calendar: Calendar | None = None,
    progress: Progress | None = None,
) -> CsvReport:
    """Write `decks` (all of them, archived ones too, if empty) to files in the new folder `out`.

    Runs and predictions of named decks are those of their cards.

    Raises:
        UsageError: if one of `decks` does not exist.
        ExportError: if `out` holds anything or cannot be written; then nothing is there.
    """
    report = CsvReport()
    with explained(store.path), snapshot(store.connection):
        wanted = chosen_decks(store.connection, decks)
        tables = _Tables(store, [deck.id for deck in wanted], bool(decks), calendar or Calendar())
        with target.new_folder(out) as folder:
            done = 0
            for name, columns in COLUMNS.items():
                # The mark at the start tells a spreadsheet that this is UTF-8.
                with (folder / f"{name}.csv").open("w", encoding="utf-8-sig", newline="") as file:
                    rows = _counted(tables.rows(name), done, progress)
                    report.rows[name] = _write(file, columns, rows)
                done += report.rows[name]
            report.bytes = target.size(folder)
    return report


def safe(text: str) -> str:
    """`text` as a spreadsheet takes it for a text."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def instant(at: float | None, calendar: Calendar) -> str:
    """Unix seconds as local time with its distance from UTC; empty for none, or one that no calendar has."""
    if at is None:
        return ""
    try:
        moment = datetime.fromtimestamp(at, calendar.zone) if calendar.zone else datetime.fromtimestamp(at).astimezone()
    except (ValueError, OverflowError, OSError):
        return ""
    return moment.isoformat(timespec="seconds")


def day(number: int | None) -> str:
    """A study day as an ISO date; empty for none."""
    return date.fromordinal(number).isoformat() if number is not None and 1 <= number <= date.max.toordinal() else ""


def days(interval: int) -> float | int:
    """An interval of the log in days: negative ones are seconds."""
    return interval if interval >= 0 else round(-interval / 86_400, 6)


def _write(file: TextIO, columns: Sequence[Column], rows: Iterator[Sequence[Any]]) -> int:
    writer, written = csv.writer(file), 0
    writer.writerow([column.name for column in columns])
    for written, row in enumerate(rows, start=1):  # noqa: B007
        writer.writerow([safe(value) if type(value) is str else value for value in row])
    return written


def _counted(rows: Iterator[Sequence[Any]], done: int, progress: Progress | None) -> Iterator[Sequence[Any]]:
    for number, row in enumerate(rows, start=1):
        if progress and number % _EVERY == 0:
            progress(done + number)
        yield row


class _Tables:
    def __init__(self, store: Store, decks: list[str], only: bool, calendar: Calendar) -> None:
        self._connection, self._faces = store.connection, store.faces
        self._decks, self._only, self._calendar = decks, only, calendar

    def rows(self, name: str) -> Iterator[Sequence[Any]]:
        made: Iterator[Sequence[Any]] = getattr(self, f"_{name}")()
        return made

    def _select(self, sql: str) -> Iterator[tuple[Any, ...]]:
        return self._connection.execute(sql.replace("DECKS", marks(self._decks)), self._decks)

    def _cards(self) -> Iterator[Sequence[Any]]:
        for title, content, *times in self._select(
            """SELECT coalesce(title_en, title_zh, deck.id), content, card.added_at, card.changed_at, card.archived_at
            FROM card JOIN deck ON deck.id = card.deck WHERE deck.id IN (DECKS)
            ORDER BY deck.position, deck.id, card.position, card.id"""
        ):
            yield [*_card(self._faces.card(content), title), *(instant(at, self._calendar) for at in times)]

    def _schedules(self) -> Iterator[Sequence[Any]]:
        for row in self._select(
            """SELECT schedule.id, card, card.deck, ordinal, state, due, interval, steps_left, stability, difficulty,
            last_review, reps, lapses, suspended, buried_on, flag, leech, retired
            FROM schedule JOIN card ON card.id = schedule.card WHERE card.deck IN (DECKS) ORDER BY schedule.id"""
        ):
            *names, state, due, interval, steps, stability, difficulty, last, reps, lapses = row[:13]
            suspended, buried, flag, leech, retired = row[13:]
            yield [
                *names,
                State(state).name.lower(),
                *_due(State(state), due, self._calendar),
                *(interval, steps, stability, difficulty, instant(last, self._calendar), reps, lapses),
                *(_yes(suspended), day(buried), flag, _yes(leech), _yes(retired)),
            ]

    def _reviews(self) -> Iterator[Sequence[Any]]:
        ratings = {rating.value: rating.name.lower() for rating in Rating}
        states = {state.value: state.name.lower() for state in State}
        for row in self._select(
            """SELECT review.id, schedule.id, card.id, card.deck, ordinal, day, rating, review.state, review.interval,
            last_interval, review.stability, review.difficulty, retrievability, duration_ms, undone.at
            FROM review JOIN schedule ON schedule.id = review.schedule JOIN card ON card.id = schedule.card
            LEFT JOIN undone ON undone.review = review.id WHERE card.deck IN (DECKS) ORDER BY review.id"""
        ):
            number, *names, on, rating, state, interval, last, stability, difficulty, recall, taken, undone = row
            yield [
                *(number, *names, instant(number / 1000, self._calendar), day(on), ratings[rating], states[state]),
                *(days(interval), days(last), stability or "", difficulty or "", recall, taken),
                instant(undone, self._calendar),
            ]

    def _runs(self) -> Iterator[Sequence[Any]]:
        for row in self._of_cards(
            """SELECT id, lab, card, started_at, seconds, outcome, device, params, versions, metrics, claims, error
            FROM run"""
        ):
            yield [*row[:3], instant(row[3], self._calendar), *row[4:]]

    def _predictions(self) -> Iterator[Sequence[Any]]:
        for row in self._of_cards("SELECT id, run, card, metric, guess, measured, score, at FROM prediction"):
            yield [*row[:7], instant(row[7], self._calendar)]

    def _of_cards(self, sql: str) -> Iterator[tuple[Any, ...]]:
        if not self._only:
            return self._connection.execute(f"{sql} ORDER BY id")
        return self._select(f"{sql} WHERE card IN (SELECT id FROM card WHERE deck IN (DECKS)) ORDER BY id")


def _card(card: Card, title: str) -> list[Any]:
    both = [card.texts.get(lang) for lang in (Lang.EN, Lang.ZH)]
    texts = chain.from_iterable(zip(*(_text(text) for text in both), strict=True))
    lab = {"lab": card.lab.lab, **card.lab.params, "metric": card.lab.metric} if card.lab else {}
    return [
        *(card.id, card.deck, title, card.topic, card.kind.value, card.level.value, card.frequency.value),
        " ".join(card.tags),
        *texts,
        json.dumps({name: value for name, value in lab.items() if value}, ensure_ascii=False) if lab else "",
        " ".join(card.follow_ups),
        "\n".join(card.sources),
        card.as_of.isoformat() if card.as_of else "",
    ]


def _text(text: CardText | None) -> list[str]:
    """Question, answer, detail, key points, choices, pitfall and symbols of one language."""
    if text is None:
        return [""] * 7
    choices = [f"[{'x' if it.right else ' '}] {it.text}" + (f" ({it.why})" if it.why else "") for it in text.choices]
    fronts = "\n\n".join(face.front for face in text.faces) or text.front
    backs = "\n\n".join(face.back for face in text.faces) or text.answer
    lists = ["\n".join(lines) for lines in (text.key_points, choices, text.symbols)]
    return [fronts, backs, text.detail, lists[0], lists[1], text.pitfall, lists[2]]


def _due(state: State, due: int, calendar: Calendar) -> tuple[Any, ...]:
    """Due day, instant, and place among new cards; one of them, by the state."""
    if state is State.NEW:
        return "", "", due
    return (day(due), "", "") if state is State.REVIEW else ("", instant(due, calendar), "")


def _yes(value: int) -> str:
    return "yes" if value else ""
