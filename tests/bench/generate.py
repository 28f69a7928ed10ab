"""A large history, the same for us and for Anki: by default 100,000 cards and 1,000,000 reviews.

    python -m tests.bench.generate FOLDER [--cards 100000] [--reviews 1000000]

writes ``llmquiz.db`` and ``collection.anki2``. Rows are inserted in bulk, so no answer is simulated: each card gets
intervals that double, ratings of which nine in ten pass, and a due day around the present. One card in twenty is new.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from llmquiz.core.card import Card, CardText, Deck, Frequency, Kind, Lang, Level
from llmquiz.core.day import Calendar
from llmquiz.store import Store

DECKS = 20
NEW_SHARE = 0.05
DAY = 86_400


@dataclass(frozen=True)
class Answer:
    """One answer of the past: `interval` in days, after it; `at` in Unix seconds."""

    at: float
    rating: int
    state: int
    interval: int
    last_interval: int
    duration_ms: int


@dataclass(frozen=True)
class Life:
    """A card's past, oldest answer first; none for a new card."""

    answers: tuple[Answer, ...]
    stability: float
    difficulty: float
    lapses: int


def lives(cards: int, reviews: int, now: float) -> Iterator[Life]:
    """The past of each card, the same for the same numbers."""
    chance = random.Random(20)
    studied = max(int(cards * (1 - NEW_SHARE)), 1)
    mean = reviews / studied
    for number in range(cards):
        if number >= studied:
            yield Life((), 0.0, 0.0, 0)
            continue
        yield _life(chance, max(int(chance.gauss(mean, mean / 4)), 1), now)


def _life(chance: random.Random, count: int, now: float) -> Life:
    interval, state, lapses = 0, 0, 0
    plan: list[tuple[int, int, int, int]] = []
    for _ in range(count):
        rating = chance.choices((1, 2, 3, 4), (10, 10, 70, 10))[0]
        last = interval
        lapses += rating == 1 and state == 2
        interval = 1 if rating == 1 else min(max(round(interval * chance.uniform(1.3, 2.4)), last + 1), 400)
        plan.append((rating, state, interval, last))
        state = 2
    # The last answer lies so far back that the card is due between a twentieth of its interval ago and the end of it.
    at = now - chance.uniform(0.0, 1.05) * interval * DAY
    starts = [at]
    for _, _, _, last in reversed(plan[1:]):
        starts.append(starts[-1] - max(last, 1) * DAY - chance.randrange(3600))
    answers = tuple(
        Answer(start, rating, before, after, last, chance.randrange(1500, 30_000))
        for start, (rating, before, after, last) in zip(reversed(starts), plan, strict=True)
    )
    return Life(answers, interval * chance.uniform(0.8, 1.3), chance.uniform(1.5, 9.5), lapses)


def _deck(number: int, cards: int) -> Deck:
    name = f"deck-{number:02}"
    made = tuple(_card(name, index) for index in range(number, cards, DECKS))
    return Deck(name, {Lang.EN: f"Deck {number}", Lang.ZH: f"卡组 {number}"}, made, position=number)


def _card(deck: str, index: int) -> Card:
    english = CardText(
        f"Question {index}: what does part {index % 97} of the model do?",
        f"It scales the scores by the root of {index}, so that their variance stays near one.",
        key_points=("variance grows with the width", "the softmax saturates", "gradients vanish"),
    )
    chinese = CardText(f"问题 {index}：模型的第 {index % 97} 部分起什么作用？", f"它把分数除以 {index} 的平方根。")
    texts = {Lang.EN: english, Lang.ZH: chinese}
    return Card(f"card-{index:06}", deck, f"topic-{index % 60:02}", Kind.OPEN, Level.L1, Frequency.HIGH, texts)


def build_ours(path: Path, cards: int, reviews: int, now: float) -> float:
    """Fill a store; returns the seconds that its sync of the decks took."""
    calendar = Calendar()
    with Store.open(path) as store:
        started = time.perf_counter()
        store.sync([_deck(number, cards) for number in range(DECKS)], now=now)
        seconds = time.perf_counter() - started
        ids = [row[0] for row in store.connection.execute("SELECT id FROM schedule ORDER BY card")]
        with store.transaction() as connection:
            used: set[int] = set()
            for schedule, life in zip(ids, lives(cards, reviews, now), strict=True):
                if not life.answers:
                    continue
                last = life.answers[-1]
                connection.execute(
                    """UPDATE schedule SET state = 2, due = ?, interval = ?, stability = ?, difficulty = ?,
                    last_review = ?, reps = ?, lapses = ? WHERE id = ?""",
                    (
                        calendar.day(last.at) + last.interval,
                        last.interval,
                        life.stability,
                        life.difficulty,
                        last.at,
                        len(life.answers),
                        life.lapses,
                        schedule,
                    ),
                )
                connection.executemany(
                    "INSERT INTO review VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)",
                    [
                        (
                            _free(int(answer.at * 1000), used),
                            schedule,
                            calendar.day(answer.at),
                            answer.rating,
                            answer.state,
                            answer.interval,
                            answer.last_interval,
                            life.stability,
                            life.difficulty,
                            0.9 if answer.state else None,
                            answer.duration_ms,
                        )
                        for answer in life.answers
                    ],
                )
        store.connection.execute("ANALYZE")
        store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return seconds


def build_anki(path: Path, cards: int, reviews: int, now: float) -> None:
    """Fill a collection of the real Anki with FSRS on and the same past."""
    from anki.collection import Collection

    collection = Collection(str(path))
    collection.set_config("fsrs", True)
    collection.db.execute("UPDATE col SET crt = crt - ?", 3000 * DAY)
    decks = [collection.decks.id(f"deck-{number:02}") for number in range(DECKS)]
    notetype = collection.models.by_name("Basic")
    collection.close()
    collection = Collection(str(path))
    today, cutoff = collection.sched.today, collection.sched.day_cutoff
    collection.close()
    notes, rows, revlog = [], [], []
    used: set[int] = set()
    base = int(now * 1000) - 10 * cards
    for number, life in enumerate(lives(cards, reviews, now)):
        identity, deck = base + number, decks[number % DECKS]
        fields = (
            f"Question {number}: what does part {number % 97} of the model do?\x1fIt scales the scores by {number}."
        )
        notes.append((identity, f"g{number}", notetype["id"], int(now), -1, "", fields, fields[:40], 0, 0, ""))
        if not life.answers:
            rows.append((identity, identity, deck, 0, int(now), -1, 0, 0, number, 0, 0, 0, 0, 0, 0, 0, 0, "{}"))
            continue
        last = life.answers[-1]
        due = today - int((cutoff - last.at) // DAY) + last.interval
        data = {"s": round(life.stability, 4), "d": round(life.difficulty, 3), "dr": 0.9, "lrt": int(last.at)}
        rows.append(
            (
                *(identity, identity, deck, 0, int(now), -1, 2, 2, due, last.interval, 2500),
                *(len(life.answers), life.lapses, 0, 0, 0, 0, json.dumps(data)),
            )
        )
        revlog += [
            (
                *(_free(int(a.at * 1000), used), identity, -1, a.rating, a.interval, a.last_interval, 500),
                *(a.duration_ms, 0 if a.state == 0 else 1),
            )
            for a in life.answers
        ]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(f"INSERT INTO notes VALUES ({', '.join('?' * 11)})", notes)
        connection.executemany(f"INSERT INTO cards VALUES ({', '.join('?' * 18)})", rows)
        connection.executemany(f"INSERT INTO revlog VALUES ({', '.join('?' * 9)})", revlog)
    collection = Collection(str(path))
    collection.db.execute("ANALYZE")
    collection.close()


def _free(number: int, used: set[int]) -> int:
    while number in used:
        number += 1
    used.add(number)
    return number


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--cards", type=int, default=100_000)
    arguments.add_argument("--reviews", type=int, default=1_000_000)
    wanted = arguments.parse_args()
    wanted.folder.mkdir(parents=True, exist_ok=True)
    now = time.time()
    started = time.perf_counter()
    sync = build_ours(wanted.folder / "llmquiz.db", wanted.cards, wanted.reviews, now)
    print(f"llmquiz.db: {time.perf_counter() - started:.0f} s, of which sync {sync:.1f} s")
    started = time.perf_counter()
    build_anki(wanted.folder / "collection.anki2", wanted.cards, wanted.reviews, now)
    print(f"collection.anki2: {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
