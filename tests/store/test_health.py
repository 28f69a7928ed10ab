"""A database is inspected without a change, and rebuilt from what can be read of it."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from llmquiz.core.errors import StoreError
from llmquiz.store import Store, health
from llmquiz.store.migrations import LATEST
from tests.support.making import make_card, make_deck

NOON = 1_772_625_600.0


@pytest.fixture
def full(path: Path) -> Path:
    """A database of some hundred pages, checkpointed into one file."""
    with Store.open(path) as store:
        store.sync([make_deck(*(make_card(f"card-{number}", answer="word " * 40) for number in range(300)))], now=NOON)
        with store.transaction() as connection:
            for number in range(2000):
                values = (1000 + number, 1 + number % 300, 5, 3, 0, 1, 0, 2.5, 5.0, None, 900)
                connection.execute(f"INSERT INTO review VALUES ({', '.join('?' * 11)}, NULL, NULL)", values)
        store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def test_a_whole_database_has_no_problems(full: Path) -> None:
    before = full.read_bytes()
    found = health.inspect(full)

    assert found.problems == ()
    assert (found.cards, found.reviews, found.schema, found.last_review_ms) == (300, 2000, LATEST, 2999)
    assert full.read_bytes() == before


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(StoreError, match="is not a database of llmquiz"):
        health.inspect(tmp_path / "other.db")
    with pytest.raises(StoreError, match="there is no such file"):
        health.inspect(tmp_path / "none.db")


def test_a_row_without_its_parent_is_a_problem(full: Path) -> None:
    with sqlite3.connect(full) as connection:
        connection.execute("DELETE FROM schedule WHERE id = 7")
    connection.close()

    assert any("of review belongs to a schedule that is not there" in line for line in health.inspect(full).problems)


def test_a_damaged_index_is_rebuilt_and_no_row_lost(full: Path) -> None:
    with sqlite3.connect(full) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        sql = "CREATE INDEX review_day ON review(day, rating, state, last_interval, duration_ms)"  # in another order
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'review_day'", (sql,))
    connection.close()
    assert health.inspect(full).problems
    found, moved = health.repair(full)

    assert found.problems == ()
    assert (found.cards, found.reviews) == (300, 2000)
    assert moved
    assert all(".damaged-" in file.name and file.exists() for file in moved)
    with Store.open(full) as store:
        assert [hit.card_id for hit in store.search("card-17")][:1] == ["card-17"]


@pytest.mark.parametrize("seed", range(4))
def test_pages_that_cannot_be_read_cost_only_their_rows(full: Path, seed: int) -> None:
    """Two pages are overwritten, none of them of the schema."""
    content, page = bytearray(full.read_bytes()), 2048
    chance = random.Random(seed)
    for number in chance.sample(range(len(content) // page // 2, len(content) // page), 2):
        content[number * page : (number + 1) * page] = chance.randbytes(page)
    full.write_bytes(content)
    if not health.inspect(full).problems:
        pytest.skip("the pages were free")
    found, _ = health.repair(full)

    assert not [line for line in found.problems if "is not there" not in line]
    assert found.cards >= 200
    assert found.reviews >= 1500


@pytest.mark.parametrize("content", [b"", b"no database at all " * 500])
def test_a_file_in_which_nothing_can_be_read_is_left_as_it_is(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(StoreError):
        health.repair(path)
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == [path.name]
