"""A clock that jumps, a zone that changes, days of 23 and 25 hours: no answer is lost and no card waits for years."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmquiz.core.day import Calendar
from llmquiz.core.rating import Rating
from llmquiz.core.schedule import State
from llmquiz.store import Store, backup, health
from llmquiz.study.session import Session
from tests.store.crash_child import OPTIONS
from tests.support.making import CALENDAR, NOON, FrozenClock, make_card, make_cloze, make_deck

HOUR, DAY = 3600, 86_400
YEAR = 365 * DAY
ZONES = ("UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")
JUMPS = st.sampled_from([0, 61, HOUR, -HOUR, DAY, -DAY, 3 * DAY, -40 * DAY, YEAR, -YEAR, 10 * YEAR, -10 * YEAR])
STEPS = st.lists(
    st.tuples(
        JUMPS,
        st.sampled_from(["again", "hard", "good", "easy", "undo", "bury", "restart"]),
        st.sampled_from(ZONES),
        st.sampled_from([0, 4, 23]),
    ),
    max_size=24,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that each example starts from anew."""
    path = tmp_path_factory.mktemp("clock") / "llmquiz.db"
    with Store.open(path) as store:
        store.sync([make_deck(make_cloze("cloze", 3), *(make_card(f"c{number}") for number in range(4)))], now=NOON)
    return path


@settings(max_examples=15, deadline=None, derandomize=True)
@given(steps=STEPS)
def test_whatever_the_clock_does_answers_are_kept_and_cards_come_back(
    shared: Path, steps: list[tuple[int, str, str, int]]
) -> None:
    path = shared.with_name("example.db")
    for old in (path, path.with_name("example.db-wal"), path.with_name("example.db-shm")):
        old.unlink(missing_ok=True)
    path.write_bytes(shared.read_bytes())
    clock = FrozenClock()
    with Store.open(path) as store:
        calendar = CALENDAR
        session = Session(store, OPTIONS, calendar=calendar, clock=clock)
        answered = 0
        for jump, what, zone, hour in steps:
            clock.now += jump
            if what == "restart":
                calendar = Calendar(hour, ZoneInfo(zone))
                session = Session(store, OPTIONS, calendar=calendar, clock=clock)
            elif what == "undo":
                answered -= (undone := session.undo()) is not None and undone.kind == "rate"
            elif session.next() is not None:
                if what == "bury":
                    session.bury()
                    continue
                after = session.rate(Rating[what.upper()], duration_ms=1).outcome.schedule
                answered += 1
                if after.state is State.REVIEW:
                    assert after.due > calendar.day(clock.now)
                else:
                    assert after.due >= clock.now
        assert_sound(store, answered)
        assert_nothing_is_lost(store, clock)
    assert health.inspect(path).problems == ()


def assert_sound(store: Store, answered: int) -> None:
    rows = store.connection.execute("SELECT id, interval, retrievability FROM live_review").fetchall()
    assert len(rows) == answered
    assert all(interval for _, interval, _ in rows)
    assert all(recall is None or 0 < recall <= 1 for _, _, recall in rows)
    counts = (
        "SELECT count(*) FROM schedule WHERE reps <> (SELECT count(*) FROM live_review WHERE schedule = schedule.id)"
    )
    assert store.connection.execute(counts).fetchone()[0] == 0
    memories = store.connection.execute("SELECT stability, difficulty FROM schedule WHERE state > 0").fetchall()
    assert all(0 < stability <= 36_500 and 1 <= difficulty <= 10 for stability, difficulty in memories)


def assert_nothing_is_lost(store: Store, clock: FrozenClock) -> None:
    """Tomorrow and on, with the clock going as it should, each card comes back within its own interval."""
    longest = store.connection.execute("SELECT max(interval) FROM schedule").fetchone()[0]
    calendar = Calendar(zone=UTC)
    seen: set[int] = set()
    total = store.connection.execute("SELECT count(*) FROM schedule").fetchone()[0]
    for days in (2, longest + 2, longest + 2, 1, 1, 1):
        clock.now += days * DAY
        session = Session(store, replace(OPTIONS, bury_siblings=False), calendar=calendar, clock=clock)
        while (prompt := session.next()) and prompt.schedule_id not in seen:
            seen.add(prompt.schedule_id)
            session.suspend()
    assert len(seen) == total


@pytest.fixture
def answered(store: Store) -> tuple[Store, FrozenClock]:
    """A card that was answered, and the clock of then."""
    clock = FrozenClock()
    store.sync([make_deck(make_card("a"), make_card("b"))], now=NOON)
    session = Session(store, OPTIONS, calendar=CALENDAR, clock=clock)
    session.next()
    session.rate(Rating.EASY, duration_ms=1)
    return store, clock


def test_a_card_answered_while_the_clock_was_ahead_is_due_when_it_is_right_again(
    answered: tuple[Store, FrozenClock],
) -> None:
    store, clock = answered
    clock.now -= 10 * YEAR
    session = Session(store, OPTIONS, calendar=CALENDAR, clock=clock)
    assert session.counts.review == 1
    assert store.deck_counts(CALENDAR.day(clock.now), clock.now, OPTIONS)[0].due == 1
    prompt = session.next()
    assert prompt is not None
    assert prompt.card.id == "a"
    after = session.rate(Rating.GOOD, duration_ms=1).outcome.schedule
    assert CALENDAR.day(clock.now) < after.due < CALENDAR.day(clock.now) + 100
    assert session.counts.review == 0


def test_a_flight_strands_no_card(answered: tuple[Store, FrozenClock]) -> None:
    store, clock = answered
    clock.now -= 20 * HOUR
    assert Session(store, OPTIONS, calendar=CALENDAR, clock=clock).counts.review == 0


def test_answers_of_one_millisecond_and_of_an_earlier_one_all_have_ids(store: Store) -> None:
    store.sync([make_deck(*(make_card(f"c{number}") for number in range(9)))], now=NOON)
    clock = FrozenClock()
    session = Session(store, OPTIONS, calendar=CALENDAR, clock=clock)
    for number in range(9):
        clock.now = NOON - 0.001 * (number % 3)
        session.next()
        session.rate(Rating.EASY, duration_ms=-5)
    rows = store.connection.execute("SELECT id, duration_ms FROM review ORDER BY id").fetchall()
    assert len(rows) == 9
    assert all(abs(review - NOON * 1000) < 20 and spent == 0 for review, spent in rows)


@pytest.mark.parametrize("zone", ["America/New_York", "Australia/Lord_Howe", "Asia/Beirut"])
@pytest.mark.parametrize("hour", [0, 4])
def test_each_study_day_starts_when_the_one_before_it_ends(zone: str, hour: int) -> None:
    """Over a year with days of 23 and 25 hours."""
    calendar = Calendar(hour, ZoneInfo(zone))
    first = datetime(2011, 1, 1).toordinal()
    starts = [calendar.start(day) for day in range(first, first + 400)]
    for day, (start, end) in enumerate(pairwise(starts), first):
        assert 23 * HOUR <= end - start <= 25 * HOUR
        assert calendar.day(start) == day
        assert calendar.day(end - 1) == day


@contextmanager
def system_zone(name: str) -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = name
    time.tzset()
    try:
        yield
    finally:
        os.environ.pop("TZ")
        if before is not None:
            os.environ["TZ"] = before
        time.tzset()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of a process is fixed here")
def test_across_the_date_line_and_back_the_limits_count_local_days(store: Store) -> None:
    store.sync([make_deck(*(make_card(f"c{number}") for number in range(40)))], now=NOON)
    clock, options = FrozenClock(), replace(OPTIONS, new_per_day=5)
    studied = []
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago", "Pacific/Kiritimati"):
        with system_zone(zone):
            session = Session(store, options, clock=clock)
            count = 0
            while session.counts.new:
                session.next()
                session.rate(Rating.EASY, duration_ms=1)
                count += 1
                clock.now += 1
            studied.append(count)
    assert studied == [5, 5, 0]  # a day apart at the same instant; the first day again brings nothing more


@pytest.fixture
def copied(path: Path) -> Path:
    """A database with a copy for each of twenty days."""
    with Store.open(path) as store:
        for day in range(20):
            made = store.backup(now=NOON - (20 - day) * DAY)
            os.utime(made, (NOON - (20 - day) * DAY,) * 2)
    return path


@pytest.mark.parametrize("years", [10, -10])
def test_a_wrong_clock_costs_no_backup(copied: Path, years: int) -> None:
    before = {one.path for one in backup.listing(copied)}
    with Store.open(copied) as store:
        odd = store.backup(now=NOON + years * YEAR)
        assert odd.exists()  # also the copy that is made before a restore
        right = store.backup(now=NOON)
    left = {one.path for one in backup.listing(copied)}
    assert right in left
    assert len(before - left) <= 4  # two for each copy
    assert backup.listing(copied)[-1 if years > 0 else 0].path == odd or odd not in left


def test_a_copy_of_tomorrow_is_not_that_of_today(copied: Path) -> None:
    now = time.time()
    with Store.open(copied) as store:
        store.backup(now=now + 10 * YEAR)
        today = store.backup(now=now - DAY)
        os.utime(today, (now - DAY,) * 2)
        store.set_meta("something", "changed")
    assert backup.due(copied, now=now)
    assert backup.newest(copied) == today


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-4000 * 24, 4000 * 24), min_size=1, max_size=40))
def test_thinning_after_any_jumps_keeps_the_last_days(hours: list[int]) -> None:
    """What was made in the fortnight before now stays, one a day, whatever other names there are."""
    now = datetime(2026, 1, 1)
    times = sorted(now + timedelta(hours=hour) for hour in hours)
    chosen = {times[number] for number in backup.kept(times, now=now)}
    past = [at for at in times if at <= now]
    assert {at for at in times if at > now + timedelta(days=3)} <= chosen
    if past:
        assert max(past) in chosen
