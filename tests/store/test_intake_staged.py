"""What a reader has staged comes in as the same notes do that are objects; whatever fails, nothing has changed."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmquiz.core.card import Lang
from llmquiz.core.day import Calendar
from llmquiz.core.errors import ImportFileError, StoreError
from llmquiz.core.options import Options
from llmquiz.core.rating import Rating
from llmquiz.core.schedule import Memory, Schedule, State
from llmquiz.store import Store
from llmquiz.store.incoming import AnkiCard, Incoming, IncomingDeck, IncomingNote, IncomingPart, IncomingReview, Staged
from llmquiz.store.intakeearly import EARLY_ANSWERS
from llmquiz.store.staging import StagedNote
from llmquiz.study.session import Session
from tests.store.incoming import TODAY, answer, dump, make_incoming, make_note, reviewed, staged, take
from tests.support.making import CALENDAR, DAY, NOON, FrozenClock, make_card, make_deck

TABLES = ("card", "schedule", "review")
ZONES = ["UTC", "Europe/Berlin", "America/St_Johns"]

schedules = st.builds(Schedule, reps=st.integers(0, 3)) | st.builds(
    Schedule,
    state=st.sampled_from([State.LEARNING, State.REVIEW, State.RELEARNING]),
    due=st.integers(TODAY - 9, TODAY + 9),
    interval=st.integers(0, 90),
    memory=st.none() | st.builds(Memory, st.floats(0.1, 99), st.floats(1, 10)),
    last_review=st.floats(NOON - 9e6, NOON),
    reps=st.integers(0, 9),
)
# In few milliseconds, so that they clash, or over a year, in which clocks are changed.
moments = st.integers(0, 30) | st.integers(0, 365 * 96).map(lambda quarter: quarter * 900_000)
reviews = st.builds(
    IncomingReview,
    id=moments.map(lambda before: NOON * 1000 - before),
    rating=st.integers(0, 4),
    state=st.sampled_from(State),
    interval=st.integers(-600, 90),
    last_interval=st.just(0),
    duration_ms=st.integers(0, 2),
    stability=st.just(9.5),
    difficulty=st.just(5.5),
    type=st.none() | st.integers(0, 4),
    factor=st.none() | st.just(2500),
)
parts = st.builds(
    IncomingPart,
    ordinal=st.just(0),
    schedule=schedules,
    suspended=st.booleans(),
    buried_on=st.none() | st.just(TODAY),
    flag=st.integers(0, 7),
    leech=st.booleans(),
    reviews=st.lists(reviews, max_size=5, unique_by=lambda review: review.id),
    anki=st.none() | st.builds(AnkiCard, st.integers(1, 9), st.integers(1, 3), st.just(2500), st.sampled_from("ab")),
)


@st.composite
def some_notes(draw: st.DrawFn) -> list[IncomingNote]:
    names = draw(st.lists(st.sampled_from("abcd"), max_size=4))
    return [_note(draw, name, draw(st.integers(1, 3))) for name in names]


def _note(draw: st.DrawFn, name: str, sides: int) -> IncomingNote:
    note = make_note(
        name,
        *(replace(draw(parts), ordinal=ordinal) for ordinal in range(sides)),
        sides=sides,
        modified=draw(st.integers(1, 3)),
        text=draw(st.text("xyz", max_size=2)),
        deck=draw(st.sampled_from(("anki-d", "anki-e"))),
    )
    return replace(note, keeps_text=draw(st.integers(0, 7)) == 0, position=draw(st.integers(0, 3)))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    first=some_notes(),
    second=some_notes(),
    zone=st.sampled_from(ZONES),
    ratings=st.lists(st.sampled_from(Rating), max_size=2),
    own=st.sets(st.sampled_from("abcd"), max_size=2),
    others=st.booleans(),
)
def test_staged_or_not_the_store_is_the_same(
    first: list[IncomingNote],
    second: list[IncomingNote],
    zone: str,
    ratings: list[Rating],
    own: set[str],
    others: bool,
) -> None:
    """Whether answers come before their notes, in a first import, or after them, where `others` brought some before."""
    calendar = Calendar(4, ZoneInfo(zone))
    with (
        TemporaryDirectory() as name,
        Store.open(Path(name) / "one" / "x.db") as one,
        Store.open(Path(name) / "other" / "x.db") as other,
    ):
        for store in (one, other):
            store.connection.execute("PRAGMA synchronous = OFF")
            store.sync([make_deck(*(make_card(f"anki-{name}") for name in sorted(own)))], now=NOON)
            _study(store, calendar, ratings, NOON)
            if others:
                take(store, from_others(), calendar=calendar)
        for notes in (first, second, second):
            by_sql = staged(notes, Path(name) / "staged")
            reports = [take(one, make_incoming(*notes), calendar=calendar), take(other, by_sql, calendar=calendar)]
            assert reports[0] == reports[1]
            assert dump(one) == dump(other)
            for store in (one, other):
                _study(store, calendar, ratings, NOON + 3600)
        wrong = [
            row for row in one.connection.execute("SELECT id, day FROM review") if calendar.day(row[0] / 1000) != row[1]
        ]
        assert not wrong


def _study(store: Store, calendar: Calendar, ratings: list[Rating], now: int) -> None:
    sitting = Session(store, Options(), calendar=calendar, clock=FrozenClock(now))
    for rating in ratings:
        if sitting.next():
            sitting.rate(rating, duration_ms=7)


def from_others() -> Incoming:
    """A deck of another program, with nothing in it."""
    return Incoming("csv", [IncomingDeck("csv-x", {Lang.EN: "X"})], (), 0)


def small() -> list[IncomingNote]:
    studied = IncomingPart(0, reviewed(5), flag=2, reviews=[answer(20), answer(5, 4)], anki=AnkiCard(11, 1, 2300))
    return [make_note("a", studied, sides=1), make_note("b", IncomingPart(0), IncomingPart(1))]


def settings_of(store: Store) -> list[Any]:
    """Pragmas that a merge sets aside, and what is attached."""
    names = ("foreign_keys", "wal_autocheckpoint", "database_list")
    return [store.connection.execute(f"PRAGMA {name}").fetchall() for name in names]


def altered(incoming: Incoming, *, log: bool, sql: str) -> Incoming:
    """With something else in one of the staging databases."""
    assert incoming.staged is not None
    with closing(sqlite3.connect(incoming.staged.log() if log else incoming.staged.parts())) as connection:
        connection.executescript(sql)
    return incoming


def test_the_connection_is_as_before(store: Store, tmp_path: Path) -> None:
    store.connection.execute("PRAGMA wal_autocheckpoint = 77")
    before = settings_of(store)
    for incoming in (make_incoming(*small()), staged(small(), tmp_path / "staged")):
        take(store, incoming, dry_run=True)
        assert settings_of(store) == before
    take(store, staged(small(), tmp_path / "staged"))
    assert settings_of(store) == before
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        store.connection.execute("INSERT INTO undone VALUES (5, 5)")


def test_what_no_note_took_is_left_out_with_its_answers(store: Store, tmp_path: Path) -> None:
    incoming = altered(
        staged(small(), tmp_path / "staged"),
        log=False,
        sql="INSERT INTO part SELECT 5, 9, 4444, 0, 2, 5, 3, 0, 1, 1, 1, 1, 0, 0, NULL, 0, 0, 5, 5, 5, '{}', NULL;"
        "INSERT INTO part SELECT 99, 10, note, ordinal, 2, 5, 3, 0, 1, 1, 1, 1, 0, 0, NULL, 0, 0, 5, 5, 5, '{}', NULL"
        " FROM part WHERE number = 10",
    )
    twice = "INSERT INTO review SELECT id + 7 * {0}, {0}, 3, 2, 1, 1, 0, 0, 0, 1, 1, NULL FROM review;"
    report = take(store, altered(incoming, log=True, sql=twice.format(5) + twice.format(99)))
    assert (report.after.cards, report.after.reviews) == (3, 2)
    assert list(report.findings) == ["parts that their card lacks or has already, left out: 1"]
    assert store.progress_of("anki-a")[0].schedule == reviewed(5)


def test_columns_that_a_reader_has_for_itself_are_its_own(store: Store, tmp_path: Path) -> None:
    incoming = staged(small(), tmp_path / "staged")
    columns = ("place", "card", "known", "newest", "own", "note_of", "part", "retired", "id", "here")
    altered(incoming, log=False, sql="".join(f"ALTER TABLE part ADD COLUMN {name} ANY;" for name in columns))
    altered(
        incoming, log=True, sql="ALTER TABLE review ADD COLUMN day ANY; ALTER TABLE review ADD COLUMN schedule ANY;"
    )
    assert take(store, incoming).after == take(store, staged(small(), tmp_path / "staged")).before
    assert store.progress_of("anki-a")[0].schedule == reviewed(5)


def test_answers_that_cannot_have_been_given(store: Store, tmp_path: Path) -> None:
    row = "INSERT INTO review VALUES ({}, 10, 3, 2, 1, 1, 0, 0, 0, 1, 1, NULL);"
    latest = (NOON + DAY) * 1000
    sql = "".join(row.format(at) for at in (-(10**15), 2 * 86_400_000 - 1, 2 * 86_400_000, latest, latest + 1, 10**15))
    report = take(store, altered(staged(small(), tmp_path / "staged"), log=True, sql=sql))
    assert (report.reviews_added, list(report.findings)) == (
        4,
        ["answers dated in the future or before 1970, left out: 4"],
    )


def test_a_clash_with_an_answer_that_was_given_here(store: Store, tmp_path: Path) -> None:
    take(store, make_incoming(make_note("own", sides=1)))
    _study(store, CALENDAR, [Rating.GOOD], NOON + 3600)
    at = store.connection.execute("SELECT id FROM review").fetchone()[0]
    same = [answer(0)._replace(id=at), answer(0)._replace(id=at + 1), answer(0, 0)._replace(id=at)]
    notes = [make_note(name, IncomingPart(0, reviewed(0), reviews=same), sides=1) for name in "ab"]
    for added in (4, 0):
        assert take(store, staged(notes, tmp_path / "staged")).reviews_added == added
        rows = store.connection.execute("SELECT id - ?, schedule FROM review ORDER BY id", (at,)).fetchall()
        assert rows == [(0, 1), (1, 2), (2, 2), (3, 3), (4, 3)]
        assert store.connection.execute("SELECT id - ? FROM anki_reschedule", (at,)).fetchall() == [(0,), (1,)]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/St_Johns"])
def test_recall_is_certain_on_the_day_of_another_answer(store: Store, zone: str) -> None:
    calendar, march = Calendar(4, ZoneInfo(zone)), 1_772_000_000
    moments = [march + 3600 * hour for hour in range(0, 40 * 24, 7)]
    answers = [answer(0)._replace(id=at * 1000) for at in moments]
    take(
        store, make_incoming(make_note("a", IncomingPart(0, reviewed(0), reviews=answers), sides=1)), calendar=calendar
    )
    days = [calendar.day(at) for at in moments]
    repeated = [1.0 if day == before else None for before, day in zip([0, *days], days, strict=False)]
    assert [(one.day, one.retrievability) for one in store.history(1)] == [*zip(days, repeated, strict=True)]


def _many(staging: Staged, last: BaseException | None = None) -> Staged:
    """With a thousand notes more, and an error after half of them, while the answers are written."""

    def notes() -> Iterator[StagedNote]:
        yield from (first := [*staging.notes])
        for number in range(1000):
            if last and number == 500:
                assert any(thread.name == EARLY_ANSWERS for thread in threading.enumerate())
                raise last
            yield first[-1]._replace(number=1000 + number, card=f"more-{number}", anki=None)

    return replace(staging, notes=notes())


MANY_ANSWERS = """
WITH n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
INSERT INTO review SELECT 1600000000000 + i * 1000, 10, 3, 2, 1, 1, 0, 0, 0, 1, 1, NULL FROM n
"""


def test_in_a_first_import_answers_come_before_their_parts(store: Store, tmp_path: Path) -> None:
    incoming = altered(staged(small(), tmp_path / "staged"), log=True, sql=MANY_ANSWERS)
    assert incoming.staged is not None
    seen = []

    def look(notes: int) -> None:
        seen.append((notes, *(store.connection.execute(f"SELECT count(*) FROM {it}").fetchone()[0] for it in TABLES)))

    report = take(store, replace(incoming, staged=_many(incoming.staged)), progress=look)
    assert seen == [(500, 500, 0, 60002), (1000, 1000, 0, 60002), (1002, 1002, 0, 60002)]
    assert (report.after.notes, report.after.cards, report.after.reviews) == (1002, 3, 60002)
    assert len(store.history(1)) == report.reviews_added == 60002


def test_what_was_not_foretold_comes_after_its_parts(store: Store, tmp_path: Path) -> None:
    """As many parts became nothing as others, whose cards were told to be here, became new ones."""
    foretold = IncomingPart(0, reviewed(5), reviews=[answer(5)], anki=AnkiCard(11, 1, 2300))
    told_to_be_here = IncomingPart(1, reviewed(4), reviews=[answer(4)])
    gone = make_note("gone", IncomingPart(0, reviewed(3), reviews=[answer(3)], anki=AnkiCard(12, 1, 2300)), sides=1)
    notes = [make_note("a", foretold, told_to_be_here), replace(gone, keeps_text=True)]
    assert take(store, staged(notes, tmp_path / "staged")).reviews_added == 2
    assert [len(store.history(one.id)) for one in store.progress_of("anki-a")] == [1, 1]


@pytest.mark.parametrize("error", [ImportFileError("x.apkg: ends too early"), KeyboardInterrupt()])
def test_an_error_while_answers_are_written(store: Store, tmp_path: Path, error: BaseException) -> None:
    before, how = dump(store), settings_of(store)
    incoming = altered(staged(small(), tmp_path / "staged"), log=True, sql=MANY_ANSWERS)
    assert incoming.staged is not None
    with pytest.raises(type(error)):
        take(store, replace(incoming, staged=_many(incoming.staged, error)))
    assert not any(thread.name == EARLY_ANSWERS for thread in threading.enumerate())
    assert (dump(store), settings_of(store)) == (before, how)
    assert take(store, staged(small(), tmp_path / "staged")).notes_added == 2


def _raising(incoming: Incoming) -> Incoming:
    staging = incoming.staged
    assert staging is not None

    def notes() -> Iterator[StagedNote]:
        yield from staging.notes
        raise ImportFileError("x.apkg: ends too early")

    return replace(incoming, staged=replace(staging, notes=notes()))


def _raising_log(incoming: Incoming) -> Incoming:
    def log() -> Path:
        raise ImportFileError("x.apkg: log is damaged")

    assert incoming.staged is not None
    return replace(incoming, staged=replace(incoming.staged, log=log))


def _raising_parts(incoming: Incoming) -> Incoming:
    def parts() -> Path:
        raise ImportFileError("x.apkg: 'cards' is not whole")

    assert incoming.staged is not None
    return replace(incoming, staged=replace(incoming.staged, parts=parts))


def _damaged_log(incoming: Incoming) -> Incoming:
    assert incoming.staged is not None
    altered(incoming, log=True, sql=MANY_ANSWERS)
    _spoil(incoming.staged.log())
    return incoming


def _damaged(incoming: Incoming) -> Incoming:
    staging = incoming.staged
    assert staging is not None
    filler = "WITH n AS (SELECT 900 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
    part = "2, 5, 3, 0, 1, 1, 1, 1, 0, 0, NULL, 0, 0, 5, 5, 5, '{}', NULL"
    altered(incoming, log=False, sql=f"INSERT INTO part {filler} SELECT i, i, i, 0, {part} FROM n")
    _spoil(staging.parts())
    return incoming


def _spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[8192:] = b"\x55" * (len(content) - 8192)
    path.write_bytes(content)


def _without(name: str) -> Callable[[Incoming], Incoming]:
    def without(incoming: Incoming) -> Incoming:
        assert incoming.staged is not None
        gone = incoming.staged.homes.parent / "gone.db"
        changed: dict[str, Staged] = {
            "homes": replace(incoming.staged, homes=gone),
            "parts": replace(incoming.staged, parts=lambda: gone),
            "log": replace(incoming.staged, log=lambda: gone),
        }
        return replace(incoming, staged=changed[name])

    return without


def _unfit(incoming: Incoming) -> Incoming:
    return altered(incoming, log=False, sql="UPDATE part SET flag = 9 WHERE number = 10")


def test_ranks_that_are_gone_are_missed_by_a_first_import_alone(store: Store, tmp_path: Path) -> None:
    before, without_homes = dump(store), _without("homes")
    with pytest.raises(StoreError, match=r"gone\.db: temporary file cannot be read \(it is gone or empty\)"):
        take(store, without_homes(staged(small(), tmp_path / "staged")))
    assert dump(store) == before
    take(store, from_others())
    assert take(store, without_homes(staged(small(), tmp_path / "staged"))).notes_added == 2


@pytest.mark.parametrize("others", [False, True])
@pytest.mark.parametrize(
    ("spoiled", "error", "told"),
    [
        (_raising, ImportFileError, r"x\.apkg: ends too early"),
        (_raising_log, ImportFileError, r"x\.apkg: log is damaged"),
        (_raising_parts, ImportFileError, r"x\.apkg: 'cards' is not whole"),
        (
            _damaged_log,
            StoreError,
            r"log\.db: temporary file cannot be read \(.+\); nothing was imported; see that the",
        ),
        (_damaged, StoreError, r"parts\.db: temporary file cannot be read \(.+\); nothing was imported; see that the"),
        (_without("parts"), StoreError, r"gone\.db: temporary file cannot be read \(it is gone or empty\)"),
        (_without("log"), StoreError, r"gone\.db: temporary file cannot be read \(it is gone or empty\)"),
        (
            _unfit,
            StoreError,
            r"rows that were read do not fit the database \(CHECK .+\); nothing was imported",
        ),
    ],
)
def test_whatever_fails_nothing_has_changed(
    store: Store,
    tmp_path: Path,
    spoiled: Callable[[Incoming], Incoming],
    error: type[Exception],
    told: str,
    others: bool,
) -> None:
    if others:
        take(store, make_incoming(make_note("b", IncomingPart(0), sides=1)))
    before, how = dump(store), settings_of(store)
    with pytest.raises(error, match=told):
        take(store, spoiled(staged(small(), tmp_path / "staged")))
    assert (dump(store), settings_of(store)) == (before, how)
    assert take(store, staged(small(), tmp_path / "staged")).notes_added == 2 - others
