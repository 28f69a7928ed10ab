"""Next card and answer, for us and for the real Anki, interleaved in one process on the same history.

The history is made by `tests.bench.generate` and kept in ``$LLMQUIZ_BENCH`` (default: a folder in the temporary
directory); ``LLMQUIZ_BENCH_CARDS`` and ``LLMQUIZ_BENCH_REVIEWS`` set its size. Each run studies copies, and both write
to the same disk with their own durability: each answer is committed before the next card.
"""

from __future__ import annotations

import gc
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmquiz.core.day import Calendar
from llmquiz.core.options import Options
from llmquiz.core.rating import Rating
from llmquiz.store import Store
from llmquiz.study.session import Session
from tests.bench import generate

ROUNDS = 400
RATINGS = (Rating.GOOD, Rating.GOOD, Rating.HARD, Rating.GOOD, Rating.AGAIN, Rating.GOOD, Rating.EASY)


class Times:
    """Seconds of each kind of step."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def measure(self, name: str, step: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = step()
        self.seconds.setdefault(name, []).append(time.perf_counter() - started)
        return result

    def percentile(self, name: str, share: float) -> float:
        """Milliseconds."""
        values = sorted(self.seconds[name])
        return values[min(int(len(values) * share), len(values) - 1)] * 1000


def history() -> Path:
    """The folder with the two databases, made if it is not there."""
    cards = int(os.environ.get("LLMQUIZ_BENCH_CARDS", "100000"))
    reviews = int(os.environ.get("LLMQUIZ_BENCH_REVIEWS", "1000000"))
    home = os.environ.get("LLMQUIZ_BENCH") or str(Path(tempfile.gettempdir()) / "llmquiz-bench")
    folder = Path(home) / f"{cards}-{reviews}-{Calendar().day(time.time())}"
    if not (folder / "collection.anki2").exists():
        folder.mkdir(parents=True, exist_ok=True)
        now = time.time()
        sync = generate.build_ours(folder / "llmquiz.db", cards, reviews, now)
        generate.build_anki(folder / "collection.anki2", cards, reviews, now)
        print(f"made {cards} cards and about {reviews} reviews; our sync of the decks took {sync:.1f} s")
    return folder


def open_anki(path: Path, times: Times) -> Any:
    from anki.collection import Collection

    collection = times.measure("open", lambda: Collection(str(path)))
    for config in collection.decks.all_config():
        config["rev"]["perDay"] = config["new"]["perDay"] = 9999
        collection.decks.update_config(config)
    # One parent over all decks, so that a session studies everything, as ours does.
    for deck in list(collection.decks.all_names_and_ids()):
        if deck.name.startswith("deck-"):
            collection.decks.rename(deck.id, f"all::{deck.name}")
    collection.decks.set_current(collection.decks.id("all"))
    return collection


def anki_round(collection: Any, rating: Rating, times: Times) -> None:
    queued = times.measure(
        "next", lambda: collection._backend.get_queued_cards(fetch_limit=1, intraday_learning_only=False)
    )
    card = queued.cards[0]
    from anki.scheduler_pb2 import CardAnswer

    def answer() -> None:
        state = getattr(card.states, rating.name.lower())
        collection._backend.answer_card(
            CardAnswer(
                card_id=card.card.id,
                current_state=card.states.current,
                new_state=state,
                rating=rating.value - 1,
                answered_at_millis=int(time.time() * 1000),
                milliseconds_taken=4000,
            )
        )

    times.measure("answer", answer)


def our_round(session: Session, rating: Rating, times: Times, number: int) -> None:
    """In two rounds of three the following card is read ahead while the learner thinks, as the faces do."""
    times.measure("next" if number % 3 else "next, not read ahead", session.next)
    if number % 3 != 2:
        times.measure("reading ahead", session.prepare)
    times.measure("answer", lambda: session.rate(rating, duration_ms=4000))


def aggregates(store: Store, calendar: Calendar, times: Times) -> None:
    """What a page of statistics needs, from the log and the schedules."""
    today = calendar.day(time.time())
    queries = {
        "reviews per day (all)": "SELECT day, count(*), sum(duration_ms) FROM live_review GROUP BY day",
        "retention by maturity (365 d)": f"""SELECT day, last_interval >= 21, count(*), total(rating > 1)
            FROM live_review WHERE day > {today - 365} AND state = 2 GROUP BY 1, 2""",
        "due forecast": """SELECT due, count(*) FROM schedule WHERE state = 2 AND suspended = 0 AND retired = 0
            GROUP BY due""",
        "memory by topic": """SELECT topic, stability, last_review FROM schedule JOIN card ON card.id = schedule.card
            WHERE stability IS NOT NULL AND suspended = 0 AND retired = 0""",
    }
    for name, sql in queries.items():
        times.measure(name, lambda sql=sql: store.connection.execute(sql).fetchall())


def main(rounds: int = ROUNDS) -> None:
    """Print p50 and p95 of both, and their ratios."""
    ours, anki = Times(), Times()
    made = history()
    with tempfile.TemporaryDirectory(dir=made) as folder:
        for name in ("llmquiz.db", "collection.anki2"):
            shutil.copy(made / name, folder)
        collection = open_anki(Path(folder) / "collection.anki2", anki)
        store = ours.measure("open", lambda: Store.open(Path(folder) / "llmquiz.db"))
        calendar = Calendar()
        options = Options(new_per_day=9999, reviews_per_day=9999)
        ours.measure("deck counts", lambda: store.deck_counts(calendar.day(time.time()), time.time(), options))
        anki.measure("deck counts", lambda: collection._backend.deck_tree(now=int(time.time())))
        session = Session(store, options)
        ours.measure("first queue", session.next)
        anki.measure(
            "first queue", lambda: collection._backend.get_queued_cards(fetch_limit=1, intraday_learning_only=False)
        )
        gc.freeze()  # as every command does once it has started
        for number in range(rounds):
            rating = RATINGS[number % len(RATINGS)]
            our_round(session, rating, ours, number)
            anki_round(collection, rating, anki)
        for _ in range(20):
            ours.measure("undo", session.undo)
            anki.measure("undo", collection.undo)
        ours.measure("undo, then next", session.next)
        aggregates(store, calendar, ours)
        for query in ("scales", "问题 77", "分数"):
            ours.measure(f"search '{query}'", lambda query=query: store.search(query))
        collection.close()
        store.close()
    report(ours, anki)


def report(ours: Times, anki: Times) -> None:
    print(f"{'ms':34}{'ours p50':>10}{'p95':>9}{'Anki p50':>10}{'p95':>9}{'ratio p50':>11}{'p95':>7}")
    for name, values in ours.seconds.items():
        mine = [ours.percentile(name, share) for share in (0.5, 0.95)]
        line = f"{name:34}{mine[0]:10.3f}{mine[1]:9.3f}"
        if name in anki.seconds:
            theirs = [anki.percentile(name, share) for share in (0.5, 0.95)]
            line += f"{theirs[0]:10.3f}{theirs[1]:9.3f}{mine[0] / theirs[0]:11.2f}{mine[1] / theirs[1]:7.2f}"
        print(f"{line}   n={len(values)}")
    total = sum(
        statistics.fmean(values) for name, values in ours.seconds.items() if "(" in name or name[:3] in {"due", "mem"}
    )
    print(f"statistics in all: {total:.2f} s")


if __name__ == "__main__":
    main()
