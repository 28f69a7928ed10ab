"""A power cut at any moment of any change: what was acknowledged is there afterwards, and the file is whole."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from llmquiz.core.rating import Rating
from llmquiz.store import Store, backup, filesystem, health, migrations
from llmquiz.store.codec import encode_card
from llmquiz.store.migrations import LATEST
from llmquiz.study.session import Session
from tests.store.crash_child import OPTIONS, Children, deck_of
from tests.support.making import CALENDAR, NOON, FrozenClock, make_card, make_deck

CARDS = 40
_FOREIGN = ", NULL, NULL"  # columns of answers that were given in Anki
pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
SLOW = pytest.mark.slow
few_or_many = pytest.mark.parametrize("kills", [2, pytest.param(6, marks=SLOW)])


@pytest.fixture
def studied(path: Path) -> Path:
    """A database with some cards, one of them answered."""
    with Store.open(path) as store:
        store.sync([make_deck(*(make_card(f"c{number}") for number in range(CARDS)))], now=NOON)
        session = Session(store, OPTIONS, calendar=CALENDAR, clock=FrozenClock())
        session.next()
        session.rate(Rating.GOOD, duration_ms=1)
    return path


def whole(path: Path) -> health.Health:
    """What the database holds, as the next start finds it; it must have no problem."""
    Store.open(path).close()
    found = health.inspect(path)
    assert found.problems == ()
    return found


def make_old(path: Path, version: int, cards: int) -> int:
    """A database of an earlier schema, with so many cards and as many answers as it can keep; returns their number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN")
    migrations.apply(Database(connection), version)
    connection.execute("INSERT INTO deck (id, title_en, position, builtin) VALUES ('deck', 'Deck', 0, 0)")
    for number in range(cards):
        card = make_card(f"c{number}", answer=f"number {number} " * 300)
        connection.execute(
            "INSERT INTO card VALUES (?, ?, 'deck', 'topic', 'open', 'L1', 'high', 0, 'x', 0, 0, NULL, ?)",
            (number + 1, card.id, encode_card(card)),
        )
        connection.execute("INSERT INTO schedule (id, card, ordinal, state) VALUES (?, ?, 0, 2)", (number + 1, card.id))
        if version >= 2:
            connection.execute(
                f"INSERT INTO review VALUES (?, ?, 5, 3, 0, 1, 0, 2.5, 5.0, NULL, 900{_FOREIGN * (version >= 6)})",
                (1000 + number, number + 1),
            )
    connection.execute("COMMIT")
    connection.close()
    return cards if version >= 2 else 0


@pytest.mark.parametrize(("kills", "network"), [(2, False), pytest.param(6, True, marks=SLOW)], ids=["log", "journal"])
def test_every_acknowledged_answer_is_in_the_log_with_its_schedule(
    path: Path, children: Children, kills: int, network: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem, "is_network", lambda folder: network)
    chance = random.Random(3)
    with Store.open(path) as store:
        store.sync([make_deck(*(make_card(f"c{number}") for number in range(CARDS)))], now=NOON)
    acknowledged: dict[int, tuple[int, int]] = {}
    for number in range(kills):
        with Store.open(path) as store:
            store.set_meta("now", str(NOON + number * 9 * 86_400))
        ended = children.killed("study", path, after=chance.randrange(1, 30), network=network)
        for schedule, reps, due in ended.lines:
            acknowledged[int(schedule)] = (int(reps), int(due))
        whole(path)
        with Store.open(path) as store:
            for schedule_id, (answers, day) in acknowledged.items():
                kept = store.schedule(schedule_id)
                assert kept.reps >= answers
                assert len(store.history(schedule_id)) == kept.reps
                assert kept.due == day or kept.reps > answers
    assert acknowledged


def test_a_migration_is_done_or_not_begun(path: Path, children: Children) -> None:
    reviews = make_old(path, 3, 60)
    children.killed("opening", path, delay=0.01)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] in (3, LATEST)
    found = whole(path)
    assert (found.schema, found.cards, found.reviews) == (LATEST, 60, reviews)


@pytest.mark.slow
def test_a_migration_of_megabytes_is_done_or_not_begun(tmp_path: Path, children: Children) -> None:
    chance, seen = random.Random(5), set()
    for version in range(1, LATEST):
        original = tmp_path / f"old-{version}.db"
        reviews = make_old(original, version, 400)
        assert original.stat().st_size > 2**20
        for number in range(2):
            path = tmp_path / f"{version}-{number}" / "llmquiz.db"
            path.parent.mkdir()
            shutil.copy(original, path)
            children.killed("opening", path, delay=chance.uniform(0.0, 0.15))
            with closing(sqlite3.connect(path)) as connection:
                seen.add(connection.execute("PRAGMA user_version").fetchone()[0])
            found = whole(path)
            assert (found.schema, found.cards, found.reviews) == (LATEST, 400, reviews)
    assert seen <= set(range(1, LATEST + 1))


@few_or_many
def test_a_backup_that_has_its_name_is_whole(studied: Path, children: Children, kills: int) -> None:
    chance = random.Random(6)
    for number in range(kills):
        now = NOON + 1000 * number
        ended = children.killed("backups", studied, after=1, delay=chance.uniform(0.0, 0.02), now=now)
        there = backup.listing(studied)
        assert {line[0] for line in ended.lines[1 - backup.NEWEST :]} <= {one.path.name for one in there}
        for one in there:
            assert (whole(one.path).cards, whole(one.path).reviews) == (CARDS, 1)
    assert whole(studied).reviews == 1


@pytest.mark.slow
@pytest.mark.parametrize("kills", [6])
def test_a_restore_is_done_or_not_begun(path: Path, children: Children, kills: int) -> None:
    copies = []
    with Store.open(path) as store:
        for version in range(2):
            store.sync([deck_of(version, 60)], now=NOON)
            copies.append(str(store.backup(now=NOON + version)))
    chance = random.Random(7)
    for _ in range(kills):
        ended = children.killed("restores", path, after=1, delay=chance.uniform(0.0, 0.01), sources=copies)
        with Store.open(path, read_only=True) as store:  # takes the unfinished change back
            texts = {card.texts[next(iter(card.texts))].answer for card in store.cards()}
        assert len(texts) == 1
        assert ended.lines
        whole(path)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [6])
def test_a_sync_of_decks_is_done_or_not_begun(studied: Path, children: Children, kills: int) -> None:
    chance = random.Random(8)
    for _ in range(kills):
        ended = children.killed("syncs", studied, after=2, delay=chance.uniform(0.0, 0.02), cards=60)
        assert len(ended.lines) >= 2
        whole(studied)
        with Store.open(studied) as store:
            texts = {card.texts[next(iter(card.texts))].answer for card in store.cards("other")}
            assert len(texts) == 1
            assert len(store.cards("other")) == 60


@pytest.mark.slow
@pytest.mark.parametrize("kills", [6])
def test_a_repair_is_done_or_not_begun(studied: Path, tmp_path: Path, children: Children, kills: int) -> None:
    sql = "CREATE INDEX review_day ON review(day, rating, state, last_interval, duration_ms)"  # in another order
    with closing(sqlite3.connect(studied)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'review_day'", (sql,))
    chance = random.Random(9)
    for number in range(kills):
        path = tmp_path / f"r{number}" / "llmquiz.db"
        path.parent.mkdir()
        shutil.copy(studied, path)
        children.killed("repairs", path, delay=chance.uniform(0.0, 0.08))
        found = health.inspect(path)
        assert found.reviews == 1  # the damaged one and the rebuilt one both have it
        if found.problems:
            health.repair(path)
        assert whole(path).cards == CARDS


@few_or_many
def test_an_import_is_done_or_not_begun(studied: Path, children: Children, kills: int) -> None:
    chance, step = random.Random(10), 40
    there = 0
    for _ in range(kills):
        ended = children.killed(
            "imports", studied, after=1, delay=chance.uniform(0.0, 0.03), first=there + step, step=step
        )
        assert not ended.error
        acknowledged = max(int(line[0]) for line in ended.lines)
        found = whole(studied)
        there = found.cards - CARDS
        assert there >= acknowledged
        assert there % step == 0
        assert found.reviews == 1 + 2 * there


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, int, int]]]:
    """A database as a power cut leaves it, and for each answer the length of its log when it was acknowledged."""
    path = tmp_path_factory.mktemp("torn") / "llmquiz.db"
    with Store.open(path) as store:
        store.sync([make_deck(*(make_card(f"c{number}") for number in range(CARDS)))], now=NOON)
    log = path.with_name("llmquiz.db-wal")
    acknowledged = []
    with Store.open(path) as store:
        session = Session(store, OPTIONS, calendar=CALENDAR, clock=FrozenClock())
        for _ in range(CARDS):
            session.next()
            rated = session.rate(Rating.EASY, duration_ms=1)
            acknowledged.append((log.stat().st_size, rated.schedule_id, rated.outcome.schedule.due))
        image = path.parent / "image" / "llmquiz.db"
        image.parent.mkdir()
        for file in (path, log):
            shutil.copy(file, image.parent)
    return image, acknowledged


@settings(max_examples=15, deadline=None, derandomize=True)
@given(share=st.floats(0, 1), noise=st.booleans(), seed=st.integers(0, 99))
def test_what_the_disk_kept_of_the_log_is_kept(
    crashed: tuple[Path, list[tuple[int, int, int]]], share: float, noise: bool, seed: int
) -> None:
    """The tail of the log never came to the disk: it is missing, or is noise. All before it is there."""
    image, acknowledged = crashed
    path = image.parent / "torn" / "llmquiz.db"
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir()
    shutil.copy(image, path)
    content = image.with_name("llmquiz.db-wal").read_bytes()
    cut = int(share * len(content))
    tail = random.Random(seed).randbytes(len(content) - cut) if noise else b""
    path.with_name("llmquiz.db-wal").write_bytes(content[:cut] + tail)

    with Store.open(path) as store:
        assert store.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        for length, schedule, due in acknowledged:
            if length <= cut:
                assert store.schedule(schedule).due == due
                assert len(store.history(schedule)) == 1
