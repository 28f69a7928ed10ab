"""A disk that fills: what failed is said in one line and can be done again; what was acknowledged stays.

A small file system of its own where the tests may mount one; a limit to the size of files, which fails in the same
places, everywhere else.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmquiz.core.errors import StoreError
from llmquiz.core.rating import Rating
from llmquiz.store import Store, backup, health
from llmquiz.study.session import Session
from tests.store.crash_child import OPTIONS, Children, deck_of, incoming
from tests.store.test_crash import make_old
from tests.support.making import CALENDAR, NOON, FrozenClock, make_card, make_deck

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits and mounts of another kind")
SIZE = 4 * 2**20
SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path_factory.mktemp("disk")
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


@pytest.fixture
def full_later(disk: Path) -> Iterator[Path]:
    """A database on the small disk, with two copies: of many cards, and of few."""
    path = disk / "data" / "llmquiz.db"
    with Store.open(path) as store:
        store.sync([make_deck(*(make_card(f"c{number}") for number in range(600)))], now=NOON)
        store.backup(now=NOON)
        store.sync([make_deck(*(make_card(f"c{number}") for number in range(120)))], now=NOON)
        session = Session(store, OPTIONS, calendar=CALENDAR, clock=FrozenClock())
        for _ in range(3):
            session.next()
            session.rate(Rating.EASY, duration_ms=1)
    yield path
    for file in [*path.parent.rglob("*"), disk / "filler"]:
        if file.is_file():
            file.unlink()


def fill(disk: Path, leave: int) -> Path:
    """Take all of the disk but so many bytes."""
    filler, stat = disk / "filler", os.statvfs(disk)
    filler.write_bytes(b"x" * (stat.f_bavail * stat.f_frsize - leave))
    return filler


def study(path: Path) -> None:
    with Store.open(path) as store:
        session = Session(store, OPTIONS, calendar=CALENDAR, clock=FrozenClock())
        for _ in range(60):
            session.next()
            session.rate(Rating.EASY, duration_ms=1)


def copy(path: Path) -> None:
    with Store.open(path, read_only=True) as store:
        store.backup(now=NOON + 60)


def restore(path: Path) -> None:
    backup.restore(backup.listing(path)[0].path, path)


def sync(path: Path) -> None:
    with Store.open(path) as store:
        store.sync([deck_of(0, 600)], now=NOON)


def merge(path: Path) -> None:
    from llmquiz.store import intake

    with Store.open(path) as store:
        intake.merge(store, incoming(600), calendar=CALENDAR, now=NOON)


def migrate(path: Path) -> None:
    Store.open(path.with_name("old.db")).close()


def again_and_again(change: Callable[[Path], None], path: Path) -> None:
    for _ in range(20):
        change(path)


@pytest.mark.parametrize(
    ("change", "leave"),
    [
        (study, 24_000),
        (copy, 24_000),
        pytest.param(study, 0, marks=SLOW),
        *(pytest.param(change, 60_000, marks=SLOW) for change in (copy, restore, sync, merge, migrate)),
    ],
)
def test_a_full_disk_is_said_and_what_was_there_is_there(
    full_later: Path, disk: Path, change: Callable[[Path], None], leave: int
) -> None:
    path, old = full_later, full_later.with_name("old.db")
    if change is migrate:
        make_old(old, 3, 60)
    before = health.inspect(path)
    with Store.open(path) as held:  # a session that is open all the while
        if change is restore:
            held.close()
        filler = fill(disk, leave)
        with pytest.raises(StoreError) as error:
            again_and_again(change, path)
        filler.unlink()
        if change is not restore:
            held.set_meta("works", "again")
    assert str(error.value).startswith(str(path.parent))
    assert "\n" not in str(error.value)
    assert "in use" not in str(error.value)
    found = health.inspect(path)
    assert (found.problems, found.cards >= before.cards) == ((), True)
    assert found.reviews >= before.reviews
    assert change is not migrate or health.inspect(old).schema == 3
    assert not list(path.parent.rglob("*.part*"))
    change(path)
    assert health.inspect(old if change is migrate else path).problems == ()


def test_the_same_card_is_answered_when_there_is_room_again(path: Path, children: Children) -> None:
    with Store.open(path) as store:
        store.sync([make_deck(*(make_card(f"c{number}") for number in range(300)))], now=NOON)
    ended = children.run("persistent", path, most=path.stat().st_size)
    assert ended.code == 0
    assert "cannot be read or written (disk i/o error); check disk, quota and mount" in ended.error.lower()
    answers = [line for line in ended.lines if line[0] not in ("error", "pid")]
    assert len(answers) > 3
    with Store.open(path) as store:
        for schedule, due in answers:
            assert store.schedule(int(schedule)).due == int(due)
            assert len(store.history(int(schedule))) == 1
    assert health.inspect(path).problems == ()


@SLOW
@pytest.mark.parametrize("do", ["backups", "opening", "restores", "syncs", "imports"])
def test_a_file_that_may_not_grow_is_said(path: Path, children: Children, do: str) -> None:
    sources = []
    if do == "opening":
        make_old(path, 3, 100)
    else:
        with Store.open(path) as store:
            for cards in (300, 20):
                store.sync([make_deck(*(make_card(f"c{number}") for number in range(cards)))], now=NOON)
                sources.append(str(store.backup(now=NOON + cards)))
    before = health.inspect(path)
    job = {"sources": sources, "cards": 600, "first": 600, "step": 600}
    ended = children.run("squeezed", path, what=do, most=before.size // 2, **job)
    assert ended.code == 0
    assert str(path.parent) in ended.error
    after = health.inspect(path)
    assert (after.problems, after.schema, after.reviews) == ((), before.schema, before.reviews)
    assert not list(path.parent.rglob("*.part*"))
