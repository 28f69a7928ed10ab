"""The order of the day, and its limits, which a restart does not reset."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmquiz.core.options import Options
from llmquiz.core.rating import Rating
from llmquiz.core.schedule import State
from llmquiz.store import Store
from llmquiz.store.queue import QueueRow
from llmquiz.study.queue import Counts, Queue, Scope, build, spread
from llmquiz.study.session import Session
from tests.support.making import CALENDAR, DAY, NOON, FrozenClock, make_card, make_cloze, make_deck

TODAY = CALENDAR.day(NOON)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "llmquiz.db") as opened:
        yield opened


def fill(store: Store, count: int, deck: str = "deck", prefix: str = "c") -> None:
    store.sync(
        [make_deck(*(make_card(f"{prefix}{n:03}", deck, topic=f"t{n % 2}") for n in range(count)), deck=deck)], now=NOON
    )


def review(store: Store, card: str, due: int, state: State = State.REVIEW, last_review: float = NOON - 9 * DAY) -> None:
    store.connection.execute(
        """UPDATE schedule SET state = ?, due = ?, interval = 9, stability = 9.0, difficulty = 5.0, reps = 3,
        last_review = ? WHERE card = ?""",
        (state.value, due, last_review, card),
    )


def order(store: Store, options: Options | None = None, scope: Scope | None = None, now: float = NOON) -> list[str]:
    queue = build(store, options or Options(), scope or Scope(), CALENDAR, now=now, learn_ahead=1200)
    cards = []
    while row := queue.head(now):
        cards.append(row.card)
        queue.take(row.schedule)
    return cards


def rows(prefix: str, count: int) -> list[QueueRow]:
    return [QueueRow(number, f"{prefix}{number}", State.NEW, 0, None) for number in range(count)]


def test_reviews_go_by_their_day_and_then_by_chance_that_the_day_fixes(store: Store) -> None:
    fill(store, 40)
    for number in range(40):
        review(store, f"c{number:03}", TODAY - number // 20)
    cards = order(store)
    assert cards == order(store)
    assert {int(card[1:]) // 20 for card in cards[:20]} == {1}
    assert cards[20:] != sorted(cards[20:])
    for number in range(40):
        review(store, f"c{number:03}", TODAY + 1 - number // 20)
    tomorrow = order(store, now=NOON + DAY)
    assert sorted(tomorrow) == sorted(cards)
    assert tomorrow != cards


def test_tomorrows_reviews_wait_unless_asked_for(store: Store) -> None:
    fill(store, 2)
    review(store, "c000", TODAY + 1)
    review(store, "c001", TODAY)
    assert order(store) == ["c001"]
    assert order(store, scope=Scope(ahead=1)) == ["c001", "c000"]


def test_learning_that_is_due_comes_first_and_what_falls_due_soon_last(store: Store) -> None:
    fill(store, 5)
    review(store, "c000", TODAY)
    review(store, "c001", NOON - 5, State.LEARNING, NOON - 65)
    review(store, "c002", NOON + 300, State.RELEARNING, NOON - 65)
    review(store, "c003", NOON + 3000, State.LEARNING, NOON - 65)
    assert order(store) == ["c001", "c000", "c004", "c002"]


def test_new_cards_are_spread_evenly(store: Store) -> None:
    fill(store, 12)
    for number in range(9):
        review(store, f"c{number:03}", TODAY)
    kinds = ["new" if int(card[1:]) > 8 else "review" for card in order(store)]
    places = [place for place, kind in enumerate(kinds) if kind == "new"]
    assert [b - a for a, b in pairwise(places)] == [4, 3]
    assert 1 <= places[0] <= 3


@given(st.integers(0, 40), st.integers(0, 40))
def test_spreading_keeps_every_card_and_both_orders(many: int, few: int) -> None:
    merged = list(spread(rows("m", many), rows("f", few)))
    assert [row for row in merged if row.card[0] == "m"] == rows("m", many)
    assert [row for row in merged if row.card[0] == "f"] == rows("f", few)


def test_a_step_of_a_day_counts_as_a_review(store: Store) -> None:
    fill(store, 2)
    start = int(CALENDAR.start(TODAY))
    review(store, "c000", start, State.LEARNING, start - 20_000)
    review(store, "c001", TODAY)
    queue = build(store, Options(), Scope(), CALENDAR, now=NOON, learn_ahead=1200)
    assert queue.counts(NOON) == Counts(new=0, learning=1, review=1)
    assert len(order(store, Options(reviews_per_day=1))) == 1


def test_a_card_left_in_learning_yesterday_is_due_at_once_and_needs_no_limit(store: Store) -> None:
    fill(store, 1)
    review(store, "c000", NOON - DAY, State.LEARNING, NOON - DAY - 60)
    assert order(store, Options(reviews_per_day=0, new_per_day=0)) == ["c000"]


def test_limits(store: Store) -> None:
    fill(store, 20)
    for number in range(10):
        review(store, f"c{number:03}", TODAY)
    cards = order(store, Options(new_per_day=3, reviews_per_day=4))
    assert sum(int(card[1:]) < 10 for card in cards) == 4
    assert sum(int(card[1:]) >= 10 for card in cards) == 3


@pytest.mark.parametrize(
    ("scope", "count"),
    [
        (Scope(decks=("one",)), 4),
        (Scope(decks=("one", "two")), 7),
        (Scope(topics=("t1",)), 3),
        (Scope(decks=("two",), topics=("t0",)), 2),
        (Scope(limit=2), 2),
        (Scope(card="c001"), 1),
        (Scope(decks=("none'; DROP TABLE card; --",)), 0),
    ],
)
def test_scopes(store: Store, scope: Scope, count: int) -> None:
    fill(store, 4, "one", "c")
    fill(store, 3, "two", "d")
    assert len(order(store, scope=scope)) == count


def test_the_limit_of_a_session_holds_over_a_rebuild(store: Store) -> None:
    fill(store, 8)
    clock = FrozenClock()
    sitting = Session(store, Options(), scope=Scope(limit=3), calendar=CALENDAR, clock=clock)
    for _ in range(2):
        sitting.next()
        sitting.rate(Rating.EASY, duration_ms=1)
    fill(store, 9)
    assert sitting.counts.new == 1


def test_random_new_order_is_another_each_day(store: Store) -> None:
    fill(store, 30)
    random = Options(new_order="random", new_per_day=30)
    assert order(store, random) == order(store, random)
    assert sorted(order(store, random)) == order(store, Options(new_per_day=30))
    assert order(store, random) != order(store, random, now=NOON + DAY)


def test_counts_of_decks_agree_with_the_queue(store: Store) -> None:
    store.sync(
        [
            make_deck(*(make_card(f"a{n}", "a") for n in range(6)), make_cloze("ac", 3, "a"), deck="a"),
            make_deck(*(make_card(f"b{n}", "b") for n in range(3)), deck="b", position=1),
        ],
        now=NOON,
    )
    review(store, "a0", TODAY - 3)
    review(store, "a1", TODAY)
    review(store, "a2", TODAY + 1)
    review(store, "b0", NOON + 60, State.LEARNING, NOON)
    store.set_suspended("b1", True, now=NOON)
    found = {c.id: (c.new, c.learning, c.due, c.total) for c in store.deck_counts(TODAY, NOON, Options())}
    assert found == {"a": (4, 0, 2, 7), "b": (1, 1, 0, 3)}
    queue = build(store, Options(), Scope(), CALENDAR, now=NOON, learn_ahead=1200)
    assert queue.counts(NOON) == Counts(new=5, learning=1, review=2)
    capped = {c.id: (c.new, c.due) for c in store.deck_counts(TODAY, NOON, Options(new_per_day=2, reviews_per_day=1))}
    assert capped == {"a": (2, 1), "b": (1, 0)}


def test_a_card_put_back_with_nothing_else_waits_behind_the_next() -> None:
    learning = [QueueRow(1, "a", State.LEARNING, NOON + 100, NOON), QueueRow(2, "b", State.LEARNING, NOON + 200, NOON)]
    queue = Queue([], learning, 1200)
    queue.take(1)
    queue.put_learning(QueueRow(1, "a", State.LEARNING, NOON + 60, NOON), NOON)
    assert queue.head(NOON).card == "b"  # type: ignore[union-attr]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    new=st.integers(0, 5),
    reviews=st.integers(0, 5),
    answers=st.lists(st.tuples(st.sampled_from(list(Rating)), st.booleans(), st.integers(1, 40_000)), max_size=40),
)
def test_limits_are_never_exceeded(
    tmp_path_factory: pytest.TempPathFactory,
    new: int,
    reviews: int,
    answers: list[tuple[Rating, bool, int]],
) -> None:
    """Over restarts, undos and new days: per study day no more first answers and no more reviews than allowed."""
    options, clock = Options(new_per_day=new, reviews_per_day=reviews), FrozenClock()
    with Store.open(tmp_path_factory.mktemp("limits") / "llmquiz.db") as store:
        fill(store, 12)
        for number in range(8):
            review(store, f"c{number:03}", TODAY)
        sitting = Session(store, options, calendar=CALENDAR, clock=clock)
        for rating, restart, wait in answers:
            if restart:
                sitting = Session(store, options, calendar=CALENDAR, clock=clock)
                if wait % 3 == 0:
                    sitting.undo()
            if sitting.next():
                sitting.rate(rating, duration_ms=1)
            clock.now += wait
        per_day = store.connection.execute(
            """SELECT total(state = 0), total(state = 2 OR last_interval > 0 AND state IN (1, 3)) FROM live_review
            GROUP BY day"""
        ).fetchall()
    assert all(first <= new and later <= reviews for first, later in per_day)
