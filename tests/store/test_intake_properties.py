"""Whatever is merged: twice is once, nothing of ours is lost, and a study day is the calendar's."""

from __future__ import annotations

from itertools import chain, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmquiz.core.day import Calendar
from llmquiz.core.options import Options
from llmquiz.core.rating import Rating
from llmquiz.core.schedule import Memory, Schedule, State
from llmquiz.store import Store
from llmquiz.store.incoming import IncomingNote, IncomingPart, IncomingReview
from llmquiz.store.intakedays import DAY_MS, stretches
from llmquiz.study.session import Session
from tests.store.incoming import TODAY, dump, make_incoming, make_note, take
from tests.support.making import CALENDAR, NOON, FrozenClock

ZONES = ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia"]
MOMENTS = st.integers(0, 30).map(lambda number: NOON * 1000 - 20 + number)

reviews = st.builds(
    IncomingReview,
    id=MOMENTS,
    rating=st.integers(0, 5),
    state=st.sampled_from(State),
    interval=st.integers(-600, 90),
    last_interval=st.just(0),
    duration_ms=st.integers(0, 2),
)
schedules = st.builds(
    Schedule,
    state=st.sampled_from(State),
    due=st.integers(TODAY - 9, TODAY + 9) | st.just(NOON),
    interval=st.integers(-1, 90),
    memory=st.none() | st.builds(Memory, st.floats(0.1, 99), st.floats(0, 10)),
    last_review=st.none() | st.floats(NOON - 9e6, NOON - 1),
    reps=st.integers(0, 9),
)
parts = st.builds(
    IncomingPart,
    ordinal=st.integers(0, 3),
    schedule=schedules,
    suspended=st.booleans(),
    flag=st.integers(0, 8),
    reviews=st.lists(reviews, max_size=4, unique_by=lambda review: review.id),
)


@st.composite
def some_notes(draw: st.DrawFn) -> list[IncomingNote]:
    names = draw(st.lists(st.sampled_from("abcd"), max_size=4))
    return [
        make_note(
            name,
            *draw(st.lists(parts, max_size=3)),
            sides=draw(st.integers(0, 3)),
            modified=draw(st.integers(1, 3)),
            text=draw(st.text(max_size=5)),
            deck=draw(st.sampled_from(("anki-d", "anki-e"))),
        )
        for name in names
    ]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(first=some_notes(), second=some_notes(), ratings=st.lists(st.sampled_from(Rating), max_size=3))
def test_twice_is_once_and_nothing_of_ours_is_lost(
    first: list[IncomingNote], second: list[IncomingNote], ratings: list[Rating]
) -> None:
    with TemporaryDirectory() as folder, Store.open(Path(folder) / "data" / "x.db") as store:
        store.connection.execute("PRAGMA synchronous = OFF")
        take(store, make_incoming(*first))
        sitting = Session(store, Options(), calendar=CALENDAR, clock=FrozenClock())
        answered = {}
        for rating in ratings:
            if prompt := sitting.next():
                sitting.rate(rating, duration_ms=7)
                answered[prompt.schedule_id] = store.progress(prompt.schedule_id)
        before = dump(store)
        assert take(store, make_incoming(*first)).nothing
        assert dump(store) == before
        take(store, make_incoming(*second))
        assert set(before["review"]) <= set(dump(store)["review"])
        assert set(before["action"]) <= set(dump(store)["action"])
        for schedule_id, progress in answered.items():
            assert store.progress(schedule_id).schedule == progress.schedule
        after = dump(store)
        assert take(store, make_incoming(*second)).nothing
        assert dump(store) == after


@settings(max_examples=150, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    hour=st.integers(0, 23),
    at=st.integers(200_000_000, 1_900_000_000),
    later=st.lists(st.integers(0, 400 * 86_400) | st.integers(0, 90_000), max_size=9),
)
def test_a_study_day_is_the_calendars(zone: str, hour: int, at: int, later: list[int]) -> None:
    calendar = Calendar(hour, ZoneInfo(zone))
    last = at + max(later, default=0)
    pieces = [*stretches(calendar, at * 1000, last * 1000)]
    assert (pieces[0].first, pieces[-1].end) == (at * 1000, last * 1000 + 1)
    assert all(one.end == next_one.first for one, next_one in pairwise(pieces))
    edges = [moment // 1000 for piece in pieces for moment in (piece.first, piece.end - 1)]
    for moment in (at, *(at + seconds for seconds in later), *edges):
        piece = next(piece for piece in pieces if piece.first <= moment * 1000 < piece.end or moment == at)
        if piece.day is not None:
            assert piece.day + (moment * 1000 - piece.start) // DAY_MS == calendar.day(moment)


@pytest.mark.parametrize("hour", [0, 2, 4])
@pytest.mark.parametrize("zone", [*ZONES, "America/Recife", "Africa/Cairo", "Asia/Gaza", "Asia/Manila"])
def test_decades_are_few_pieces_and_every_half_hour_is_right(zone: str, hour: int) -> None:
    calendar = Calendar(hour, ZoneInfo(zone))
    first, last = 952_300_000, 1_300_000_000  # 2000 to 2011
    pieces = [*stretches(calendar, first * 1000, last * 1000)]
    assert len(pieces) < 120
    assert sum(piece.end - piece.first for piece in pieces if piece.day is None) < 400 * DAY_MS
    for piece in pieces:
        if piece.day is None:
            continue
        edges = (range(edge - 2 * DAY_MS, edge + 2 * DAY_MS, 1_800_000) for edge in (piece.first, piece.end))
        for moment in chain(*edges, range(piece.first, piece.end, 41 * DAY_MS // 7)):
            if piece.first <= moment < piece.end:
                assert piece.day + (moment - piece.start) // DAY_MS == calendar.day(moment / 1000)


def test_a_clock_put_back_over_the_rollover_makes_odd_days() -> None:
    calendar = Calendar(0, ZoneInfo("America/St_Johns"))  # until 2011 at one minute past midnight
    back = 1_289_097_060
    assert [calendar.day(back + seconds) - calendar.day(back) for seconds in (-30, 0, 3600)] == [1, 0, 1]
    assert [piece.day for piece in stretches(calendar, (back - 30) * 1000, (back + 3600) * 1000)] == [None]
