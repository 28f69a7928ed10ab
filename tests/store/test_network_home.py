"""A database on a network folder keeps a rollback journal, and all that works beside a log works beside that one."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from llmquiz.core.errors import StoreError
from llmquiz.core.rating import Rating
from llmquiz.store import Store, backup, database, filesystem, health
from llmquiz.study.session import Session
from tests.store.crash_child import OPTIONS
from tests.support.making import CALENDAR, NOON, FrozenClock, make_card, make_deck
from tests.support.privilege import folder_of_all, ordinary_user

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:41 / /home rw shared:9 - nfs4 server:/home rw,vers=4.2
31 30 8:2 / /home/ada/local\\040disk rw - xfs /dev/sdb1 rw
32 22 0:42 / /mnt/share rw - cifs //server/share rw
33 22 0:43 / /mnt/share rw - ext4 /dev/sdc1 rw
34 22 0:44 / /mnt/cloud rw master:3 - fuse.sshfs ada@server: rw
35 22 0:45 / /homework rw - btrfs /dev/sdd1 rw
36 22 0:46 / /mnt/host rw - 9p host rw
"""


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every folder were of a file server."""
    monkeypatch.setattr(filesystem, "is_network", lambda folder: True)


def pragma(store: Store, name: str) -> object:
    return store.connection.execute(f"PRAGMA {name}").fetchone()[0]


def filled(path: Path, *cards: str) -> Path:
    with Store.open(path) as store:
        store.sync([make_deck(*map(make_card, cards))], now=NOON)
    return path


@pytest.mark.parametrize(
    ("place", "kind", "network"),
    [
        ("/home/ada", "nfs4", True),
        ("/home/ada/local disk/data", "xfs", False),
        ("/homework", "btrfs", False),
        ("/mnt/share", "ext4", False),  # mounted over the share
        ("/mnt/cloud/x", "fuse.sshfs", True),
        ("/mnt/host", "9p", True),
        ("/var", "ext4", False),
    ],
)
def test_the_deepest_and_latest_mount_says_what_a_folder_is(
    tmp_path: Path, place: str, kind: str, network: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    assert filesystem._linux(Path(place), tmp_path / "mountinfo") == kind
    monkeypatch.setattr(filesystem, "kind", lambda folder: kind)
    assert filesystem.is_network(Path(place)) is network


def test_without_a_list_of_mounts_a_folder_counts_as_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert filesystem._linux(tmp_path, tmp_path / "none") == ""
    assert not filesystem.is_network(tmp_path / "not" / "there" / "yet")


def test_a_local_folder_keeps_a_log(store: Store) -> None:
    assert (pragma(store, "journal_mode"), pragma(store, "synchronous")) == ("wal", 2)


@pytest.mark.usefixtures("remote")
def test_a_network_folder_keeps_a_journal_that_is_gone_when_an_answer_is_acknowledged(store: Store) -> None:
    assert (pragma(store, "journal_mode"), pragma(store, "synchronous")) == ("delete", 3)
    store.sync([make_deck(make_card("a"))], now=NOON)
    session = Session(store, OPTIONS, calendar=CALENDAR, clock=FrozenClock())
    session.next()
    session.rate(Rating.GOOD, duration_ms=1)
    assert [file.name for file in store.path.parent.iterdir()] == ["llmquiz.db"]
    assert session.undo() is not None


def test_a_database_that_is_moved_to_a_network_folder_brings_its_log_along(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no memory can be shared: its place is taken by a link to nowhere."""
    moved = tmp_path / "moved" / "llmquiz.db"
    moved.parent.mkdir()
    with Store.open(path) as store:
        store.set_meta("kept", "yes")
        for ending in ("", "-wal"):
            shutil.copy(f"{path}{ending}", moved.parent)
    moved.with_name("llmquiz.db-shm").symlink_to(tmp_path / "nowhere" / "shm")
    with pytest.raises(StoreError):
        Store.open(moved)
    monkeypatch.setattr(filesystem, "is_network", lambda folder: True)
    with Store.open(moved) as store, Store.open(moved) as other:
        assert store.meta("kept") == other.meta("kept") == "yes"
        assert pragma(store, "journal_mode") == pragma(other, "journal_mode") == "delete"
        other.set_meta("kept", "still")
        assert store.meta("kept") == "still"


def test_moved_back_to_a_local_disk_it_keeps_a_log_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(filesystem, "is_network", lambda folder: True)
        filled(path, "a")
    with Store.open(path) as store:
        assert pragma(store, "journal_mode") == "wal"
        assert store.card("a").id == "a"


@pytest.mark.usefixtures("remote")
def test_a_session_sees_what_was_restored_beside_it(path: Path) -> None:
    filled(path, "old")
    with Store.open(path) as store:
        copy = store.backup(now=NOON)
        store.sync([make_deck(make_card("new"))], now=NOON)
        session = Session(store, OPTIONS, calendar=CALENDAR, clock=FrozenClock())
        assert session.next() is not None
        backup.restore(copy, path)
        prompt = session.next()
        assert prompt is not None
        assert prompt.card.id == "old"
        session.rate(Rating.GOOD, duration_ms=1)
    assert health.inspect(path).problems == ()


@pytest.mark.slow
@pytest.mark.usefixtures("remote")
def test_nothing_is_restored_into_a_change_that_goes_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "_PATIENCE", 0.1)
    filled(path, "a")
    with Store.open(path) as store:
        copy = store.backup(now=NOON)
        with store.transaction() as connection:
            connection.execute("INSERT INTO meta VALUES ('a', 'b')")
            with pytest.raises(StoreError, match="is in use by another llmquiz"):
                backup.restore(copy, path)
            with Store.open(path, read_only=True) as reader:
                assert reader.backup().exists()
        assert store.meta("a") == "b"


@pytest.mark.usefixtures("remote")
def test_a_backup_is_due_when_the_database_changed_and_there_is_no_log_to_look_at(path: Path) -> None:
    filled(path, "a")
    with Store.open(path) as store:
        made = store.backup(now=NOON)
    os.utime(made, (NOON, NOON))
    os.utime(path, (NOON, NOON))
    assert not backup.due(path, now=NOON + 86_400)
    filled(path, "a", "b")
    assert backup.due(path, now=NOON + 86_400)


@pytest.fixture
def hot(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database whose writer died within a change: half of it is in the file, the journal has the way back."""
    monkeypatch.setattr(filesystem, "is_network", lambda folder: True)
    filled(path, *(f"c{number}" for number in range(200)))
    image = tmp_path / "hot" / "llmquiz.db"
    image.parent.mkdir()
    with Store.open(path) as store:
        store.connection.execute("PRAGMA cache_size = 1")
        store.connection.execute("BEGIN IMMEDIATE")
        store.connection.execute("UPDATE card SET topic = 'lost', content = upper(content)")
        for ending in ("", "-journal"):
            shutil.copy(f"{path}{ending}", image.parent)
        store.connection.execute("ROLLBACK")
    assert b"lost" in image.read_bytes()
    return image


@pytest.mark.parametrize("read_only", [True, False])
def test_a_change_that_a_dead_process_left_half_done_is_taken_back(hot: Path, read_only: bool) -> None:
    with Store.open(hot, read_only=read_only) as store:
        assert {card.topic for card in store.cards()} == {"topic"}
    assert health.inspect(hot).problems == ()


def test_who_may_not_write_is_not_shown_a_change_that_is_half_done(hot: Path) -> None:
    with folder_of_all() as folder:
        for file in hot.parent.iterdir():
            Path(shutil.copy(file, folder)).chmod(0o444)
        folder.chmod(0o555)
        with ordinary_user(), pytest.raises(StoreError):
            Store.open(folder / hot.name, read_only=True)
        folder.chmod(0o755)


def test_a_log_that_cannot_be_read_is_not_overlooked(path: Path) -> None:
    """A reader without the right to write would see the database as it was before the last answers."""
    with folder_of_all() as folder, Store.open(path) as store:
        store.set_meta("kept", "yes")
        for ending in ("", "-wal"):
            Path(shutil.copy(f"{path}{ending}", folder)).chmod(0o444)
        folder.chmod(0o555)
        with ordinary_user(), pytest.raises(StoreError):
            Store.open(folder / path.name, read_only=True)
        folder.chmod(0o755)


def test_a_folder_without_locks_is_told_apart_from_a_lock_that_is_taken(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(path, "a")
    assert filesystem.locks_work(path.parent)

    def none_available(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 50)
    monkeypatch.setattr(fcntl, "lockf", none_available)
    assert not filesystem.locks_work(path.parent)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with (
            Store.open(path) as store,
            pytest.raises(StoreError, match="its file system has no locks; move LLMQUIZ_HOME"),
        ):
            store.set_meta("a", "b")
