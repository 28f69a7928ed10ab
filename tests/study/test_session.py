"""A sitting: what an answer does, what it never does, and how all of it can be taken back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmquiz.core.card import Lang
from llmquiz.core.errors import StoreError
from llmquiz.core.options import Options
from llmquiz.core.rating import Rating
from llmquiz.core.schedule import State
from llmquiz.store import Store, log
from llmquiz.study.cardtext import answer_markdown, question_markdown
from llmquiz.study.session import Counts, NoCardError, Scope, Session, StaleCardError
from tests.support.making import CALENDAR, DAY, FrozenClock, make_card, make_choice, make_cloze, make_deck, make_note

CALM = Options(fuzz=False)


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def store(tmp_path: Path, clock: FrozenClock) -> Iterator[Store]:
    with Store.open(tmp_path / "llmquiz.db") as opened:
        opened.sync([make_deck(*(make_card(f"c{number}") for number in range(4)))], now=clock.now)
        yield opened


def session(store: Store, clock: FrozenClock, options: Options = CALM, scope: Scope | None = None) -> Session:
    return Session(store, options, scope=scope, calendar=CALENDAR, clock=clock)


def rows(store: Store) -> list[log.Row]:
    return store.connection.execute(f"SELECT {log.COLUMNS} FROM schedule ORDER BY id").fetchall()


def live_reviews(store: Store) -> int:
    return int(store.connection.execute("SELECT count(*) FROM live_review").fetchone()[0])


def graduate(sitting: Session, clock: FrozenClock) -> None:
    """Answer all that there is today with easy."""
    while sitting.next():
        sitting.rate(Rating.EASY, duration_ms=1)
        clock.now += 5


def test_next_is_the_same_until_it_is_answered(store: Store, clock: FrozenClock) -> None:
    sitting = session(store, clock)
    first = sitting.next()
    assert first is not None
    assert sitting.next() is first
    sitting.rate(Rating.EASY, duration_ms=10)
    second = sitting.next()
    assert second is not None
    assert second.schedule_id != first.schedule_id


def test_an_answer_is_on_disk_when_it_is_acknowledged(store: Store, clock: FrozenClock) -> None:
    sitting = session(store, clock)
    prompt = sitting.next()
    assert prompt is not None
    rated = sitting.rate(Rating.GOOD, duration_ms=1234)
    with Store.open(store.path) as other:
        (review,) = other.history(prompt.schedule_id)
        assert (review.rating, review.state, review.duration_ms) == (Rating.GOOD, State.NEW, 1234)
        assert review.interval == -600
        assert other.schedule(prompt.schedule_id) == rated.outcome.schedule == prompt.outcomes[Rating.GOOD].schedule


def test_the_log_knows_intervals_and_the_chance_of_recall(store: Store, clock: FrozenClock) -> None:
    sitting = session(store, clock, scope=Scope(card="c0"))
    for rating, wait in ((Rating.GOOD, 600), (Rating.GOOD, 2 * DAY), (Rating.GOOD, 0)):
        sitting.next()
        sitting.rate(rating, duration_ms=1)
        clock.now += wait
        sitting = session(store, clock, scope=Scope(card="c0"))
    reviews = store.history(1)
    assert [(review.last_interval, review.interval) for review in reviews] == [(0, -600), (-600, 2), (2, 11)]
    assert [review.state for review in reviews] == [State.NEW, State.LEARNING, State.REVIEW]
    assert reviews[0].retrievability is None
    assert reviews[2].retrievability == pytest.approx(0.91, abs=0.02)


def test_two_answers_in_one_millisecond_are_both_kept(store: Store, clock: FrozenClock) -> None:
    sitting = session(store, clock)
    for _ in range(3):
        sitting.next()
        sitting.rate(Rating.GOOD, duration_ms=1)
    assert live_reviews(store) == 3


def test_without_a_current_card_there_is_nothing_to_rate(store: Store, clock: FrozenClock) -> None:
    with pytest.raises(NoCardError):
        session(store, clock).rate(Rating.GOOD, duration_ms=1)


def test_a_write_that_fails_changes_nothing_and_keeps_the_card(store: Store, clock: FrozenClock) -> None:
    sitting = session(store, clock)
    prompt, before = sitting.next(), rows(store)
    store.connection.execute(
        "CREATE TEMP TRIGGER full BEFORE INSERT ON main.action BEGIN SELECT RAISE(ABORT, 'x'); END"
    )
    with pytest.raises(StoreError):
        sitting.rate(Rating.GOOD, duration_ms=1)
    assert rows(store) == before
    assert (live_reviews(store), sitting.answered) == (0, 0)
    assert sitting.next() is not None
    assert sitting.next().schedule_id == prompt.schedule_id  # type: ignore[union-attr]
    store.connection.execute("DROP TRIGGER full")
    sitting.rate(Rating.GOOD, duration_ms=1)
    assert live_reviews(store) == 1


def test_learning_comes_back_after_its_step_and_ahead_of_time_when_nothing_else_is_left(
    store: Store, clock: FrozenClock
) -> None:
    sitting = session(store, clock, Options(fuzz=False, new_per_day=2))
    assert sitting.counts == Counts(new=2, learning=0, review=0)
    shown = []
    for rating in (Rating.AGAIN, Rating.GOOD):
        shown.append(sitting.next().card.id)  # type: ignore[union-attr]
        sitting.rate(rating, duration_ms=1)
    assert shown == ["c0", "c1"]
    assert sitting.counts == Counts(new=0, learning=2, review=0)
    assert sitting.next().card.id == "c0"  # type: ignore[union-attr]
    assert sitting.next_learning_due() == int(clock.now) + 60
    sitting.rate(Rating.EASY, duration_ms=1)
    assert sitting.next().card.id == "c1"  # type: ignore[union-attr]


def test_a_step_beyond_the_learn_ahead_time_waits(store: Store, clock: FrozenClock) -> None:
    sitting = session(store, clock, Options(fuzz=False, new_per_day=1, learning_steps=(3600,)))
    sitting.next()
    sitting.rate(Rating.AGAIN, duration_ms=1)
    assert sitting.next() is None
    assert sitting.next_learning_due() == int(clock.now) + 3600
    clock.now += 2400
    assert sitting.next() is not None


def test_undo_goes_back_through_every_kind_of_action(store: Store, clock: FrozenClock) -> None:
    sitting = session(store, clock)
    states = [rows(store)]
    steps = [
        lambda: sitting.rate(Rating.GOOD, duration_ms=1),
        lambda: sitting.flag(4),
        lambda: sitting.suspend(),
        lambda: sitting.bury(),
        lambda: sitting.rate(Rating.AGAIN, duration_ms=1),
    ]
    for step in steps:
        sitting.next()
        step()
        states.append(rows(store))
        clock.now += 7
    kinds = []
    while undone := sitting.undo():
        kinds.append(undone.kind)
        states.pop()
        assert rows(store) == states[-1]
        assert sitting.next().schedule_id == undone.schedule_id  # type: ignore[union-attr]
    assert kinds == ["rate", "bury", "suspend", "flag", "rate"]
    assert live_reviews(store) == 0
    assert sitting.answered == 0
    assert store.connection.execute("SELECT count(*) FROM review").fetchone()[0] == 2


def test_undo_survives_a_restart(store: Store, clock: FrozenClock) -> None:
    before = rows(store)
    sitting = session(store, clock)
    sitting.next()
    sitting.rate(Rating.GOOD, duration_ms=1)
    with Store.open(store.path) as reopened:
        undone = session(reopened, clock).undo()
        assert undone is not None
        assert (undone.kind, undone.card_id, undone.rating) == ("rate", "c0", Rating.GOOD)
        assert rows(reopened) == before


def test_undo_ends_after_thirty_in_a_row(store: Store, clock: FrozenClock) -> None:
    sitting = session(store, clock)
    for number in range(35):
        sitting.next()
        sitting.flag(number % 8)
    assert sum(sitting.undo() is not None for _ in range(35)) == 30
    sitting.flag(5)
    assert sitting.undo() is not None


def test_an_undone_answer_does_not_count_for_the_day(store: Store, clock: FrozenClock) -> None:
    sitting = session(store, clock, Options(fuzz=False, new_per_day=1))
    sitting.next()
    sitting.rate(Rating.EASY, duration_ms=1)
    assert sitting.next() is None
    sitting.undo()
    assert session(store, clock, Options(fuzz=False, new_per_day=1)).counts.new == 1


def test_siblings_are_buried_until_tomorrow_and_undo_brings_them_back(store: Store, clock: FrozenClock) -> None:
    store.sync([make_deck(make_cloze("cloze", 3))], now=clock.now)
    sitting = session(store, clock)
    before = rows(store)
    prompt = sitting.next()
    assert prompt is not None
    assert (prompt.ordinal, sitting.counts.new) == (1, 1)
    assert sitting.rate(Rating.EASY, duration_ms=1).buried_siblings == 2
    assert sitting.next() is None
    sitting.undo()
    assert rows(store) == before
    sitting.rate(Rating.EASY, duration_ms=1)
    clock.pass_days(1)
    again = session(store, clock).next()
    assert again is not None
    assert again.ordinal == 2


def test_the_faces_of_a_note_are_siblings(store: Store, clock: FrozenClock) -> None:
    store.sync([make_deck(make_note("note", ("red", "rot"), ("rot", "red")))], now=clock.now)
    sitting = session(store, clock)
    prompt = sitting.next()
    assert prompt is not None
    assert question_markdown(prompt.card, prompt.ordinal, Lang.EN) == "red"
    assert sitting.rate(Rating.EASY, duration_ms=1).buried_siblings == 1
    clock.pass_days(1)
    other = session(store, clock).next()
    assert other is not None
    assert question_markdown(other.card, other.ordinal, Lang.EN) == "rot"
    assert answer_markdown(other.card, other.ordinal, Lang.EN) == "red"


def test_siblings_stay_if_they_shall(store: Store, clock: FrozenClock) -> None:
    store.sync([make_deck(make_cloze("cloze", 3))], now=clock.now)
    sitting = session(store, clock, Options(fuzz=False, bury_siblings=False))
    assert sitting.counts.new == 3
    sitting.next()
    assert sitting.rate(Rating.EASY, duration_ms=1).buried_siblings == 0
    assert sitting.next() is not None


def test_a_leech_is_marked_and_suspended_and_undo_frees_it(store: Store, clock: FrozenClock) -> None:
    options = Options(fuzz=False, leech_threshold=2, relearning_steps=())
    scope = Scope(card="c0")
    session_now = session(store, clock, options, scope)
    session_now.next()
    session_now.rate(Rating.EASY, duration_ms=1)
    for leech in (False, True):
        clock.pass_days(30)
        sitting = session(store, clock, options, scope)
        sitting.next()
        before = rows(store)
        rated = sitting.rate(Rating.AGAIN, duration_ms=1)
        assert (rated.leech, rated.suspended) == (leech, leech)
    assert store.progress(1).suspended
    assert store.progress(1).leech
    assert sitting.next() is None
    sitting.undo()
    assert rows(store) == before


def test_a_leech_may_only_be_marked(store: Store, clock: FrozenClock) -> None:
    options = Options(fuzz=False, leech_threshold=1, leech_suspends=False)
    sitting = session(store, clock, options, Scope(card="c0"))
    sitting.next()
    sitting.rate(Rating.EASY, duration_ms=1)
    clock.pass_days(30)
    sitting = session(store, clock, options, Scope(card="c0"))
    sitting.next()
    rated = sitting.rate(Rating.AGAIN, duration_ms=1)
    assert (rated.leech, rated.suspended) == (True, False)
    again = sitting.next()
    assert again is not None
    assert again.leech


def test_suspended_and_buried_cards_stay_away(store: Store, clock: FrozenClock) -> None:
    sitting = session(store, clock)
    assert sitting.next().card.id == "c0"  # type: ignore[union-attr]
    sitting.suspend()
    assert sitting.next().card.id == "c1"  # type: ignore[union-attr]
    sitting.bury()
    assert session(store, clock).next().card.id == "c2"  # type: ignore[union-attr]
    clock.pass_days(1)
    assert session(store, clock).next().card.id == "c1"  # type: ignore[union-attr]
    store.set_suspended("c0", False, now=clock.now)
    assert session(store, clock).next().card.id == "c0"  # type: ignore[union-attr]


def test_a_flag_shows_at_once_and_the_card_stays(store: Store, clock: FrozenClock) -> None:
    sitting = session(store, clock)
    prompt = sitting.next()
    sitting.flag(3)
    flagged = sitting.next()
    assert flagged is not None
    assert (flagged.flag, flagged.schedule_id) == (3, prompt.schedule_id)  # type: ignore[union-attr]
    sitting.rate(Rating.GOOD, duration_ms=1)
    assert store.progress(flagged.schedule_id).flag == 3
    sitting.next()
    with pytest.raises(StoreError, match="flag 8 is not one of 0 to 7"):
        sitting.flag(8)


def test_a_card_answered_elsewhere_is_not_overwritten(store: Store, clock: FrozenClock) -> None:
    mine = session(store, clock)
    mine.next()
    with Store.open(store.path) as elsewhere:
        other = session(elsewhere, clock)
        other.next()
        theirs = other.rate(Rating.EASY, duration_ms=1)
    with pytest.raises(StaleCardError, match="card 'c0' was changed elsewhere"):
        mine.rate(Rating.AGAIN, duration_ms=1)
    assert store.schedule(1) == theirs.outcome.schedule
    assert mine.next().card.id == "c1"  # type: ignore[union-attr]
    mine.rate(Rating.GOOD, duration_ms=1)
    assert live_reviews(store) == 2


def test_two_sessions_side_by_side_lose_nothing(store: Store, clock: FrozenClock) -> None:
    with Store.open(store.path) as second:
        sittings = [session(store, clock), session(second, clock)]
        answered = 0
        while any(prompts := [sitting.next() for sitting in sittings]):
            for sitting, prompt in zip(sittings, prompts, strict=True):
                if prompt is None:
                    continue
                try:
                    sitting.rate(Rating.EASY, duration_ms=1)
                except StaleCardError:
                    continue
                answered += 1
            clock.now += 3
    assert answered == live_reviews(store) == 4
    assert {part.reps for part in (store.schedule(number) for number in range(1, 5))} == {1}


def test_a_change_elsewhere_is_seen_before_the_next_card(store: Store, clock: FrozenClock) -> None:
    sitting = session(store, clock)
    sitting.next()
    sitting.prepare()
    with Store.open(store.path) as elsewhere:
        elsewhere.set_suspended("c1", True, now=clock.now)
    sitting.rate(Rating.EASY, duration_ms=1)
    assert sitting.next().card.id == "c2"  # type: ignore[union-attr]
    sitting.prepare()
    store.set_suspended("c3", True, now=clock.now)
    sitting.rate(Rating.EASY, duration_ms=1)
    assert sitting.next() is None


def test_reading_ahead_shows_cards_as_they_are_stored(store: Store, clock: FrozenClock) -> None:
    sitting, seen = session(store, clock), []
    for number in range(12):
        prompt = sitting.next()
        assert prompt is not None
        sitting.prepare()
        assert prompt.schedule == store.schedule(prompt.schedule_id)
        assert prompt.card == store.card(prompt.card.id)
        seen.append(prompt.card.id)
        sitting.rate(Rating.AGAIN if number % 3 else Rating.GOOD, duration_ms=1)
        clock.now += 45
    assert set(seen) == {"c0", "c1", "c2", "c3"}


def test_refresh_shows_the_edited_text(store: Store, clock: FrozenClock) -> None:
    sitting = session(store, clock)
    prompt = sitting.next()
    assert prompt is not None
    store.sync([make_deck(make_card("c0", answer="edited"))], now=clock.now, archive_missing=False)
    sitting.refresh()
    edited = sitting.next()
    assert edited is not None
    assert edited.schedule_id == prompt.schedule_id
    assert edited.card == make_card("c0", answer="edited")


def test_a_card_removed_from_its_deck_is_not_asked_again(store: Store, clock: FrozenClock) -> None:
    sitting = session(store, clock)
    sitting.next()
    store.sync([make_deck(make_card("c2"))], now=clock.now)
    assert sitting.next().card.id == "c2"  # type: ignore[union-attr]


def test_a_new_day_begins_within_a_sitting(store: Store, clock: FrozenClock) -> None:
    options = Options(fuzz=False, new_per_day=1)
    sitting = session(store, clock, options)
    sitting.next()
    sitting.rate(Rating.EASY, duration_ms=1)
    assert sitting.next() is None
    clock.pass_days(1)
    assert sitting.next().card.id == "c1"  # type: ignore[union-attr]


def test_choices_are_shuffled_the_same_way_until_the_next_answer(store: Store, clock: FrozenClock) -> None:
    store.sync([make_deck(*(make_choice(f"choice-{number}") for number in range(12)))], now=clock.now)
    orders = set()
    sitting = session(store, clock)
    for _ in range(12):
        prompt = sitting.next()
        assert prompt is not None
        assert sorted(prompt.choice_order) == [0, 1, 2, 3]
        assert session(store, clock).next().choice_order == prompt.choice_order  # type: ignore[union-attr]
        orders.add(prompt.choice_order)
        sitting.rate(Rating.EASY, duration_ms=1)
    assert len(orders) > 3


def test_one_card_may_be_studied_though_it_is_not_due(store: Store, clock: FrozenClock) -> None:
    graduate(session(store, clock), clock)
    early = session(store, clock, Options(fuzz=False, new_per_day=0, reviews_per_day=0), Scope(card="c2"))
    prompt = early.next()
    assert prompt is not None
    assert (prompt.card.id, prompt.schedule.state) == ("c2", State.REVIEW)
    early.rate(Rating.GOOD, duration_ms=1)
    assert early.next() is None


def test_an_early_review_grows_less_than_one_on_time(store: Store, clock: FrozenClock) -> None:
    graduate(session(store, clock), clock)
    grown = {}
    for name, share in (("early", 0.25), ("on time", 1.0), ("late", 2.0)):
        schedule = store.schedule(1)
        later = FrozenClock(clock.now + share * schedule.interval * DAY)
        prompt = session(store, later, scope=Scope(card="c0")).next()
        assert prompt is not None
        memory = prompt.outcomes[Rating.GOOD].schedule.memory
        assert memory is not None
        grown[name] = memory.stability
    assert grown["early"] < grown["on time"] < grown["late"]
