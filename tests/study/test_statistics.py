"""What the statistics count, and what they leave out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmquiz.core.card import Deck, Lang
from llmquiz.core.rating import Rating
from llmquiz.core.scheduler import Scheduler
from llmquiz.store import Store
from llmquiz.store.records import PredictionRecord, RunRecord
from llmquiz.study import tally
from llmquiz.study.forecast import forecast
from llmquiz.study.statistics import Recall, Statistics, Streak, collect, streak, to_json
from tests.study.collection import CLOZE, DAY, DECKS, NOON, Collection


def stats(collection: Collection, days: int = 30) -> Statistics:
    return collect(collection.store, collection.clock.now, collection.calendar, collection.options, days=days)


def retention(collection: Collection) -> dict[str, tuple[Recall, Recall]]:
    return {row.span: (row.young, row.mature) for row in stats(collection).retention}


def learn(collection: Collection, card: str) -> None:
    """Answer a new card easy, so that it is in review."""
    collection.answer(card, Rating.EASY)


def test_an_empty_store_has_empty_statistics(tmp_path: Path) -> None:
    with Store.open(tmp_path / "empty.db") as store:
        empty = stats(Collection(store))
    assert empty.empty
    assert empty.cards.total == 0
    assert empty.streak == Streak(0, 0)
    assert all(row.total.rate is None for row in empty.retention)


def test_today_counts_answers_time_and_new_cards(collection: Collection) -> None:
    collection.answer("scale", Rating.GOOD, seconds=10)
    collection.clock.now += 600
    collection.answer("scale", Rating.GOOD, seconds=5)
    collection.answer("weights", Rating.AGAIN, seconds=1)
    today = stats(collection).today
    assert (today.reviews, today.milliseconds, today.new) == (3, 16_000, 2)


def test_the_day_rolls_over_at_four(collection: Collection) -> None:
    collection.clock.now = NOON + 15 * 3600  # 3 am
    collection.answer("scale", Rating.GOOD)
    assert stats(collection).today.reviews == 1
    collection.clock.now = NOON + 16 * 3600  # 4 am
    assert stats(collection).today.reviews == 0


def test_undone_answers_do_not_count(collection: Collection) -> None:
    learn(collection, "scale")
    collection.clock.now += 30 * DAY
    collection.answer("scale", Rating.AGAIN)
    assert stats(collection).today.reviews == 1
    collection.session().undo()
    after = stats(collection)
    assert after.today.reviews == 0
    assert retention(collection)["today"] == (Recall(), Recall())
    assert after.streak == Streak(0, 1)
    assert after.heat == {collection.calendar.day(NOON): 1}


def test_first_answers_and_learning_steps_are_not_judged(collection: Collection) -> None:
    collection.answer("scale", Rating.GOOD)
    collection.clock.now += 600
    collection.answer("scale", Rating.GOOD)
    assert retention(collection)["all"] == (Recall(), Recall())


def test_only_the_first_answer_of_a_day_is_judged(collection: Collection) -> None:
    learn(collection, "scale")
    collection.answer("scale", Rating.AGAIN)  # in review since a moment ago: not the day's first answer
    collection.clock.now += 600
    collection.answer("scale", Rating.GOOD)
    assert retention(collection)["today"] == (Recall(), Recall())
    collection.clock.now += 10 * DAY
    collection.answer("scale", Rating.AGAIN)
    collection.clock.now += 600
    collection.answer("scale", Rating.GOOD)  # relearned
    collection.answer("scale", Rating.GOOD)  # asked for once more
    assert retention(collection)["today"] == (Recall(0, 1), Recall())


def test_mature_means_twenty_one_days_or_more(collection: Collection) -> None:
    learn(collection, "scale")
    connection = collection.store.connection
    for interval, passed in ((20, (Recall(1, 1), Recall())), (21, (Recall(), Recall(1, 1)))):
        connection.execute("UPDATE schedule SET interval = ?, state = 2 WHERE card = 'scale'", (interval,))
        collection.clock.now += 40 * DAY
        collection.answer("scale", Rating.GOOD)
        assert retention(collection)["today"] == passed


def test_spans_end_today(collection: Collection) -> None:
    for card in ("scale", "weights", "cache-size"):
        learn(collection, card)
    for card, days in (("scale", 30), ("weights", 23), ("cache-size", 6)):
        collection.clock.now += days * DAY
        collection.answer(card, Rating.GOOD)
    judged = {span: young.judged + mature.judged for span, (young, mature) in retention(collection).items()}
    assert judged == {"today": 1, "7d": 2, "30d": 3, "all": 3}


def test_streak_survives_until_the_day_is_over() -> None:
    assert streak([], 10) == Streak(0, 0)
    assert streak([10], 10) == Streak(1, 1)
    assert streak([8, 9], 10) == Streak(2, 2)
    assert streak([7, 8], 10) == Streak(0, 2)
    assert streak([1, 2, 3, 9, 10], 10) == Streak(2, 3)


@given(st.sets(st.integers(0, 40)), st.integers(0, 40))
def test_streak_against_counting_by_hand(days: set[int], today: int) -> None:
    days = {day for day in days if day <= today}
    result = streak(days, today)
    runs = [next(n for n in range(1, 50) if day - n not in days) for day in days]
    assert result.longest == max(runs, default=0)
    last = today if today in days else today - 1
    assert result.current == (next(n for n in range(50) if last - n not in days))


def test_forecast_counts_today_overdue_and_learning(collection: Collection) -> None:
    today = collection.calendar.day(NOON)
    learn(collection, "scale")
    learn(collection, "cache-size")
    collection.answer("weights", Rating.GOOD)  # due in ten minutes
    connection = collection.store.connection
    connection.execute("UPDATE schedule SET due = ? WHERE card = 'scale'", (today + 2,))
    connection.execute("UPDATE schedule SET due = ? WHERE card = 'cache-size'", (today - 3,))
    ahead = forecast(collection.store, NOON, collection.calendar, days=4)
    assert (ahead.overdue, ahead.due, ahead.now) == (1, (1, 0, 1, 0), 2)


def test_forecast_leaves_suspended_and_archived_cards_out(collection: Collection) -> None:
    for card in ("scale", "cache-size"):
        learn(collection, card)
    collection.store.set_suspended("scale", True, now=NOON)
    collection.store.sync([Deck("inference", {Lang.EN: "Inference"}, ())], now=NOON)
    ahead = forecast(collection.store, NOON, collection.calendar, days=300)
    assert sum(ahead.due) == 0


def test_card_states(collection: Collection) -> None:
    collection.answer("scale", Rating.GOOD)
    learn(collection, "weights")
    collection.store.set_suspended("speedup", True, now=NOON)
    cards = stats(collection).cards
    assert (cards.new, cards.learning, cards.young, cards.mature, cards.suspended, cards.total) == (1, 1, 1, 0, 1, 4)


@pytest.mark.parametrize("days", [0, 1, 2, 30])
def test_topic_memory_is_the_schedulers_retrievability(collection: Collection, days: int) -> None:
    learn(collection, "scale")
    collection.clock.now += 3600
    learn(collection, "weights")
    collection.clock.now += days * DAY
    scheduler = Scheduler(collection.options, collection.calendar)
    schedules = [collection.store.progress_of(card)[0].schedule for card in ("scale", "weights")]
    expected = [scheduler.retrievability(schedule, collection.clock.now) or 0.0 for schedule in schedules]
    begun, other = stats(collection).topics
    assert (begun.topic, begun.cards, begun.seen) == ("attention", 2, 2)
    assert begun.recall == pytest.approx(sum(expected) / 2, abs=1e-9)
    assert (other.topic, other.cards, other.seen, other.recall) == ("kv-cache", 2, 0, None)


def test_topic_memory_without_sqlites_own_math(collection: Collection) -> None:
    learn(collection, "scale")
    collection.clock.now += 5 * DAY
    builtin = stats(collection).topics
    collection.store.connection.create_function("pow", 2, pow, deterministic=True)
    assert stats(collection).topics[0].recall == pytest.approx(builtin[0].recall)


def test_hardest_cards_are_those_that_were_forgotten(collection: Collection) -> None:
    for card in ("scale", "weights", "cache-size"):
        learn(collection, card)
    for card in ("weights", "cache-size", "weights"):
        collection.clock.now += 20 * DAY
        collection.answer(card, Rating.AGAIN)
        collection.clock.now += 600
        collection.answer(card, Rating.GOOD)
    hardest = stats(collection).hardest
    assert [(card.card, card.lapses) for card in hardest] == [("weights", 2), ("cache-size", 1)]
    assert hardest[0].fronts == {Lang.EN: CLOZE.texts[Lang.EN].front}


def test_labs_tell_the_last_run(collection: Collection) -> None:
    held, broken = {"name": "a", "held": True}, {"name": "b", "held": False}
    for at, outcome, claims in ((1.0, "ok", [held]), (3.0, "broken", [held, broken]), (2.0, "failed", [])):
        collection.store.add_run(RunRecord("toy", at, 1.0, outcome, claims=claims))
    collection.store.add_run(RunRecord("other", 9.0, 1.0, "ok"))
    assert [lab.lab for lab in stats(collection).labs] == ["other", "toy"]
    toy = stats(collection).labs[1]
    assert (toy.runs, toy.last_at, toy.outcome, toy.claims_held, toy.claims) == (3, 3.0, "broken", 1, 2)
    assert not stats(collection).empty


def test_predictions_are_judged_on_a_logarithmic_scale(collection: Collection) -> None:
    for guess, measured in ((2.0, 1.0), (1.0, 4.0), (8.0, 1.0), (5.0, None)):
        collection.store.add_prediction(PredictionRecord("speedup", "speedup", guess, NOON, measured=measured))
    told = stats(collection).predictions
    assert (told.scored, told.typical_factor, told.lean) == (3, 4.0, 2.0)


def test_json_has_a_stable_shape(collection: Collection) -> None:
    learn(collection, "scale")
    told = json.loads(json.dumps(to_json(stats(collection, days=2))))
    assert list(told) == [
        "schema", "at", "day", "today", "all_time", "retention", "forecast", "activity", "streak", "cards", "topics",
        "hardest", "labs", "predictions",
    ]  # fmt: skip
    assert told["schema"] == 1
    assert (told["at"], told["day"]) == ("2026-11-22T12:00:00+00:00", "2026-11-22")
    assert told["today"] == {
        "reviews": 1,
        "seconds": 8.0,
        "new": 1,
        "retention": {"passed": 0, "judged": 0, "rate": None},
    }
    assert told["forecast"] == {
        "overdue": 0,
        "days": [{"day": "2026-11-22", "due": 0}, {"day": "2026-11-23", "due": 0}],
    }
    assert told["activity"] == [{"day": "2026-11-22", "reviews": 1}]
    assert told["topics"][0] == {"topic": "attention", "cards": 2, "seen": 1, "recall": 1.0}


def test_archived_cards_keep_their_reviews_but_are_not_counted(collection: Collection) -> None:
    learn(collection, "scale")
    collection.store.sync([], now=NOON, gone={deck.id for deck in DECKS})
    after = stats(collection)
    assert after.today.reviews == 1
    assert after.cards.total == 0
    assert after.topics == ()


def test_a_day_tally_adds_up() -> None:
    one = tally.DayTally(1, 2, 3, 4, 5, 6, 7)
    assert one + one == tally.DayTally(2, 4, 6, 8, 10, 12, 14)
