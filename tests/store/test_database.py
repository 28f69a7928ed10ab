"""What can go wrong with the file: each has one line that names it and says what to do; nothing is ever deleted."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from llmquiz.core.errors import StoreError
from llmquiz.store import Store, backup, database
from llmquiz.store.migrations import LATEST
from tests.support.making import NOON, make_card, make_deck
from tests.support.privilege import folder_of_all, ordinary_user


def read_everything(path: Path) -> None:
    with Store.open(path) as store:
        store.cards()
        store.search("why")


def write_and_fail(store: Store) -> None:
    with store.transaction() as connection:
        connection.execute("INSERT INTO meta VALUES ('a', 'b')")
        _ = 1 / 0


def message(error: pytest.ExceptionInfo[StoreError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_makes_its_folder_and_turns_the_safe_pragmas_on(path: Path) -> None:
    with Store.open(path) as store:
        pragma = lambda name: store.connection.execute(f"PRAGMA {name}").fetchone()[0]  # noqa: E731
        assert (pragma("journal_mode"), pragma("synchronous"), pragma("foreign_keys")) == ("wal", 2, 1)
        assert pragma("user_version") == LATEST


def test_opens_without_importing_sqlite_utils(path: Path) -> None:
    Store.open(path).close()
    code = (
        "import sys; from pathlib import Path; from llmquiz.store import Store;"
        f"Store.open(Path({str(path)!r})).close(); print('sqlite_utils' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stdout.strip() == "False"


def test_db_is_the_same_connection(store: Store) -> None:
    store.sync([make_deck(make_card("a"))], now=NOON)
    assert store.db["card"].count == 1
    assert store.db.conn is store.connection


def test_a_newer_schema_is_refused(path: Path) -> None:
    with Store.open(path) as store:
        store.connection.execute(f"PRAGMA user_version = {LATEST + 1}")
    with pytest.raises(StoreError) as error:
        Store.open(path)
    assert message(error).endswith(f"(schema {LATEST + 1}, this one knows {LATEST}); update llmquiz")


def test_another_programs_database_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE notes (id)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="is a database of another program"):
        Store.open(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"not a database at all, but long enough to be one" * 40, b"SQLite format 3\0" + b"x" * 5000]
)
def test_a_damaged_file_is_named_with_the_newest_backup_and_kept(path: Path, content: bytes) -> None:
    with Store.open(path) as store:
        store.backup(now=NOON)
        newest = store.backup(now=NOON + 5)
    path.write_bytes(content)
    with pytest.raises(StoreError) as error:
        Store.open(path)
    assert str(path) in message(error)
    assert f"`llmquiz restore` brings back the newest backup, {newest}" in message(error)
    assert path.read_bytes() == content


def test_a_page_that_went_bad_is_reported_when_it_is_read(path: Path) -> None:
    with Store.open(path) as store:
        store.sync([make_deck(*(make_card(f"c{number}") for number in range(400)))], now=NOON)
        store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    content[8192 : len(content) // 2] = os.urandom(len(content) // 2 - 8192)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="is damaged or not a database"):
        read_everything(path)


def test_a_lock_is_reported_in_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 50)
    with Store.open(path) as one, Store.open(path) as two, one.transaction():
        with pytest.raises(StoreError) as error:
            two.set_meta("key", "value")
        assert message(error).endswith("database is locked by another llmquiz; close it or wait, then try again")
        assert two.meta("key") is None


def test_a_full_disk_loses_nothing_that_was_acknowledged(path: Path) -> None:
    with Store.open(path) as store:
        store.set_meta("kept", "yes")
        pages = store.connection.execute("PRAGMA page_count").fetchone()[0]
        store.connection.execute(f"PRAGMA max_page_count = {pages + 4}")
        with pytest.raises(StoreError) as error:
            store.sync([make_deck(*(make_card(f"c{number}") for number in range(500)))], now=NOON)
        assert "disk is full, the last change was not saved; free some space" in message(error)
        store.connection.execute(f"PRAGMA max_page_count = {pages + 4000}")
        assert store.meta("kept") == "yes"
        assert store.cards() == []
        store.set_meta("again", "yes")
        assert store.connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_a_folder_that_may_only_be_read() -> None:
    with folder_of_all() as folder:
        (folder / "data").mkdir(mode=0o555)
        with ordinary_user(), pytest.raises(StoreError) as error:
            Store.open(folder / "data" / "llmquiz.db")
        assert "cannot be opened; check that its folder exists and may be read and written" in message(error)
        with ordinary_user(), pytest.raises(StoreError, match="cannot be made: permission denied; choose another"):
            Store.open(folder / "data" / "deeper" / "llmquiz.db")


def test_a_database_that_may_only_be_read_keeps_what_it_has() -> None:
    with folder_of_all() as folder:
        path = folder / "llmquiz.db"
        with Store.open(path) as store:
            store.set_meta("kept", "yes")
        path.chmod(0o444)
        with ordinary_user():
            with pytest.raises(StoreError, match="cannot be written; make the file and its folder writable"):
                Store.open(path)
            with Store.open(path, read_only=True) as reader:
                assert reader.meta("kept") == "yes"


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(StoreError, match=re.escape("cannot be made: ")):
        Store.open(tmp_path / "data" / "llmquiz.db")


def test_a_folder_where_the_file_should_be(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(StoreError, match="is a folder, not a database; move it away"):
        Store.open(path)


def test_reading_only(path: Path) -> None:
    with pytest.raises(StoreError, match="there is no database yet"):
        Store.open(path, read_only=True)
    assert not path.parent.exists()
    with Store.open(path) as store:
        store.sync([make_deck(make_card("a"))], now=NOON)
        with Store.open(path, read_only=True) as reader:
            assert reader.card("a").id == "a"
            with pytest.raises(StoreError, match="cannot be written"):
                reader.set_meta("a", "b")


def test_an_exception_inside_a_transaction_takes_everything_back(store: Store) -> None:
    with pytest.raises(ZeroDivisionError):
        write_and_fail(store)
    assert store.meta("a") is None
    assert not store.connection.in_transaction


def test_backups_are_whole_and_the_oldest_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in {"NEWEST": 3, "DAYS": 0, "WEEKS": 0, "MONTHS": 0}.items():
        monkeypatch.setattr(backup, name, count)
    with Store.open(path) as store:
        store.sync([make_deck(make_card("a"))], now=NOON)
        made = [store.backup(now=NOON + number * 60) for number in range(5)]
    assert [file.exists() for file in made] == [False, False, True, True, True]
    with Store.open(made[-1]) as copy:
        assert copy.card("a").id == "a"
