"""The staged log is what a plain loop over the rows says, and what goes wrong in the thread reaches its reader."""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from llmquiz.anki.archive import untrusted
from llmquiz.anki.archive.limits import Limits
from llmquiz.anki.importing import logstaging
from llmquiz.anki.importing.logstaging import LONGEST, LogStaging
from llmquiz.core.errors import ImportFileError
from llmquiz.core.schedule import State

from .test_package import OLD

LIMITS = Limits()
MOST = (1 << 31) - 1
CARDS, GONE = (10, 20, 30), 99
LATER = {0: State.LEARNING, 2: State.RELEARNING}
HOUR = 3_600_000
COLUMNS = "id, part, rating, state, interval, last_interval, stability, difficulty, duration_ms, type, factor, since"

Row = tuple[object, ...]


def collection(path: Path, rows: list[Row], *statements: str) -> Path:
    """A collection with three cards and a log of `rows`, after some `statements`."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.deserialize(OLD["collection.anki21"])
        connection.execute("DELETE FROM revlog")
        connection.execute("DELETE FROM cards WHERE id NOT IN (SELECT id FROM cards LIMIT 3)")
        for number in CARDS:
            connection.execute("UPDATE cards SET id = ? WHERE id = (SELECT max(id) FROM cards)", (number,))
        for statement in statements:
            connection.execute(statement)
        if rows:
            connection.executemany("INSERT INTO revlog VALUES (?, ?, 0, ?, ?, ?, ?, ?, ?)", rows)
        path.write_bytes(connection.serialize())
    return path


@contextmanager
def started(file: Path, limits: Limits, target: Path) -> Iterator[LogStaging]:
    with closing(LogStaging(file, ImportFileError, limits, target)) as log:
        log.start()
        yield log


@pytest.fixture
def staged(tmp_path: Path) -> Callable[..., tuple[list[Row], list[str]]]:
    """Stages the log of a collection; its rows, and what was told."""
    numbers = count()

    def stage(file: Path, limits: Limits = LIMITS) -> tuple[list[Row], list[str]]:
        target = tmp_path / f"log{next(numbers)}.db"
        with started(file, limits, target) as log:
            assert log.result() == target
        with closing(sqlite3.connect(target)) as connection:
            assert connection.execute("SELECT * FROM late").fetchall() == []
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            rows = connection.execute(f"SELECT {COLUMNS} FROM review").fetchall()
        target.unlink()
        return rows, log.told()

    return stage


def expected(rows: list[Row]) -> tuple[list[Row], int, int]:
    """The log by a plain loop; how many rows do not fit, and how many are of cards that are gone."""
    fitting = [tuple(map(int, row)) for row in rows if fits(row)]  # type: ignore[call-overload]
    answers, fresh, last = [], dict.fromkeys((*CARDS, GONE), True), dict[int, int]()
    for at, card, ease, interval, last_interval, factor, duration, kind in sorted(fitting):
        state = State.NEW if fresh[card] and kind == 0 else LATER.get(kind, State.REVIEW)
        rating = ease if kind < 4 else 0
        since = min(at - last[card], LONGEST) if card in last else None
        if kind < 3 and ease:
            fresh[card] = False
        elif kind == 4 and not ease and not factor:
            fresh[card] = True
        if rating:
            last[card] = at
        told = (at, card, rating, state, interval, last_interval, 0.0, 0.0, max(duration, 0), kind, factor, since)
        answers.append(told if rating else (*told[:3], None, *told[4:-1], None))
    kept = [row for row in answers if row[1] != GONE]
    return kept, len(rows) - len(fitting), len(answers) - len(kept)


def fits(row: Row) -> bool:
    ranges = ((1, 253_402_300_799_999), (-(1 << 60), 1 << 60), (0, 4), (-MOST, MOST), (-MOST, MOST), (0, MOST),
              (-MOST, MOST), (0, 5))  # fmt: skip
    return all(isinstance(value, int | float) and a <= value <= b for value, (a, b) in zip(row, ranges, strict=True))


ODD = st.sampled_from([-1, 6, 1 << 31, 2.5, "x", b"\0", 1e300, 1 << 62])
ROW = st.tuples(
    st.sampled_from([10, 10, 10, 20, 30, GONE]),
    st.sampled_from([1, 2, 3, 3, 4, 0, 0]) | ODD,
    st.sampled_from([-600, 0, 1, 30, MOST, -MOST]) | ODD,
    st.sampled_from([-600, 0, 1, 30]),
    st.sampled_from([0, 0, 2500, 2500.5]) | ODD,
    st.sampled_from([5000, -1, 0, MOST]) | ODD,
    st.sampled_from([0, 0, 0, 1, 1, 2, 3, 4, 4, 5]) | ODD,
)
LOG = st.lists(st.tuples(st.sampled_from([1, 1000, 20 * HOUR, 29 * HOUR, 40 * HOUR, 900 * HOUR]), ROW), max_size=30)


@given(log=LOG)
@example(log=[])
@example(log=[(1, (10, 3, 0, 0, 0, 0, 3)), (1, (10, 3, 0, 0, 0, 0, 0)), (1, (10, 3, 0, 0, 0, 0, 0))])  # ahead, first
@example(log=[(1, (10, ease, 0, 0, 0, 0, kind)) for ease, kind in [(3, 0), (0, 4), (3, 0), (3, 0), (0, 4), (3, 1)]])
@example(log=[(1, (GONE, 0, 0, 0, 0, 0, 4)), (1, (10, 0, 0, 0, 0, 0, 0)), (1, (10, 2, 0, 0, 0, 0, 0))])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_says_what_a_plain_loop_says(staged, tmp_path: Path, log: list[tuple[int, Row]]) -> None:
    at, rows = 1_600_000_000_000, []
    for later, row in log:
        at += later
        rows.append((at, *row))
    found, findings = staged(collection(tmp_path / "collection.db", rows[::-1]))
    answers, misfits, gone = expected(rows)
    assert [row if row[2] else (*row[:3], None, *row[4:-1], None) for row in found] == answers
    assert len(findings) == bool(misfits) + bool(gone)
    assert not misfits or findings[0].endswith(": left out, a column has a value that no Anki writes")
    assert not gone or findings[-1] == f"{gone:,} answers are of cards that are gone; left out"


def test_an_id_that_is_there_twice(staged, tmp_path: Path) -> None:
    loose = "CREATE TABLE revlog (id, cid, usn, ease, ivl, lastIvl, factor, time, type)"
    rows: list[Row] = [(7, 10, 3, 0, 0, 0, 0, 0), (5, 20, 3, 0, 0, 0, 0, 0), (7, 20, 4, 0, 0, 0, 0, 0)]
    rows += [(7.5, 30, 4, 0, 0, 0, 0, 0), ("\x1b[2Jx", 30, 4, 0, 0, 0, 0, 0)]
    found, findings = staged(collection(tmp_path / "loose.db", rows, "DROP TABLE revlog", loose))
    assert [row[0] for row in found] == [5, 7]
    assert findings == [
        "answer x: left out, a column has a value that no Anki writes",
        "answer 7 and 1 more: left out, another answer has the same id",
    ]


@pytest.mark.parametrize(
    ("statements", "problem"),
    [
        (["DROP TABLE revlog"], "there is no table 'revlog'"),
        (["DROP TABLE revlog", "CREATE VIEW revlog AS SELECT 1 AS id"], "'revlog' is no plain table"),
        (["ALTER TABLE revlog RENAME COLUMN ivl TO i"], "no such column: ivl"),
        (["DROP TABLE cards", "CREATE VIEW cards AS SELECT 1 AS id"], "'cards' is no plain table"),
        (["DROP TABLE cards", "CREATE TABLE cards (i)"], "no such column: cards.id"),
    ],
)
def test_a_collection_that_is_damaged(staged, tmp_path: Path, statements: list[str], problem: str) -> None:
    with pytest.raises(ImportFileError, match=f"the collection is damaged \\({problem}\\); in Anki, use"):
        staged(collection(tmp_path / "damaged.db", [], *statements))


def test_more_answers_than_the_limit(staged, tmp_path: Path) -> None:
    file = collection(tmp_path / "collection.db", [(at, 10, 3, 0, 0, 0, 0, 0) for at in (1, 2, 3)])
    assert len(staged(file, Limits(reviews=3))[0]) == 3
    with pytest.raises(ImportFileError, match=r"3 reviews, more than 2 \(limits.reviews\)"):
        staged(file, Limits(reviews=2))


def test_reading_has_an_end(staged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = collection(tmp_path / "collection.db", [(at, 10, 3, 0, 0, 0, 0, 0) for at in range(1, 3000)])
    monkeypatch.setattr(untrusted, "_STEPS", 10_000)
    monkeypatch.setattr(untrusted, "_LEAST_STEPS", 0)
    assert len(staged(file)[0]) == 2999
    monkeypatch.setattr(untrusted, "_STEPS_PER_BYTE", 0)
    with pytest.raises(ImportFileError, match="it never ends"):
        staged(file)


class TestPlace:
    def test_a_folder_that_takes_no_file(self, tmp_path: Path) -> None:
        file = collection(tmp_path / "collection.db", [])
        target = tmp_path / "missing" / "log.db"
        with (
            started(file, LIMITS, target) as log,
            pytest.raises(ImportFileError, match=r"cannot be written \(unable to open database file\); set TMPDIR"),
        ):
            log.result()

    @pytest.mark.skipif(sys.platform == "win32", reason="no limit to the size of a file")
    def test_a_disk_that_is_full(self, tmp_path: Path) -> None:
        rows: list[Row] = [(at, 10, 3, 0, 0, 0, 0, 0) for at in range(1, 20_000)]
        file = collection(tmp_path / "collection.db", rows)
        with (
            files_of_at_most(100_000),
            started(file, LIMITS, tmp_path / "log.db") as log,
            pytest.raises(ImportFileError, match=r"cannot be written \(disk i/o error\); set TMPDIR to another folder"),
        ):
            log.result()


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


class TestThread:
    @pytest.fixture(autouse=True)
    def no_thread_is_left(self) -> Iterator[None]:
        before = set(threading.enumerate())
        yield
        assert set(threading.enumerate()) == before

    def test_it_ends_when_nobody_waits_for_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(untrusted, "_LEAST_STEPS", 1 << 60)
        endless = (
            "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) INSERT INTO start (part) SELECT n FROM t"
        )
        monkeypatch.setattr(logstaging, "_ORDERED", f"{endless} WHERE n < 0")
        file = collection(tmp_path / "collection.db", [(1, 10, 3, 0, 0, 0, 0, 0)])
        with started(file, LIMITS, tmp_path / "log.db"):
            time.sleep(0.1)  # it is at work

    def test_it_may_be_stopped_at_any_moment(self, tmp_path: Path) -> None:
        file = collection(tmp_path / "collection.db", [(at, 10, 3, 0, 0, 0, 0, 0) for at in range(1, 2000)])
        for number in range(10):
            with started(file, LIMITS, tmp_path / f"{number}.db"):
                time.sleep(number / 1000)
        LogStaging(file, ImportFileError, LIMITS, tmp_path / "never.db").close()

    def test_it_ends_with_an_error(self, tmp_path: Path) -> None:
        with (
            started(tmp_path / "none.db", LIMITS, tmp_path / "log.db") as log,
            pytest.raises(FileNotFoundError),
        ):
            log.result()
