"""Backups: when one is due, which are kept, and the way back."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmquiz.core.errors import StoreError
from llmquiz.store import Store, backup, health
from tests.support.making import make_card, make_deck

NOON = datetime(2026, 3, 4, 12).timestamp()
DAY = 86_400


def filled(path: Path, *cards: str) -> None:
    with Store.open(path) as store:
        store.sync([make_deck(*map(make_card, cards))], now=NOON)


def cards_of(path: Path) -> set[str]:
    with Store.open(path) as store:
        return {card.id for card in store.cards()}


def test_one_is_due_on_each_day_that_something_changed(path: Path) -> None:
    assert not backup.due(path, now=NOON)  # there is nothing yet
    filled(path, "a")
    assert backup.due(path, now=NOON)
    with Store.open(path) as store:
        made = store.backup(now=NOON)
    assert not backup.due(path, now=NOON + 3600)
    os.utime(made, (time.time() + 60,) * 2)
    assert not backup.due(path, now=NOON + DAY)  # nothing has changed since
    os.utime(made, (NOON, NOON))
    assert backup.due(path, now=NOON + DAY)


def test_what_is_no_backup_is_left_alone(path: Path) -> None:
    filled(path, "a")
    folder = backup.folder(path)
    folder.mkdir()
    strangers = [
        folder / name for name in ("llmquiz-99999999-999999.db", "llmquiz-mine.db", "other-20260101-000000.db")
    ]
    for stranger in strangers:
        stranger.touch()
    with Store.open(path) as store:
        for number in range(12):
            store.backup(now=NOON + number)
    assert all(stranger.exists() for stranger in strangers)
    assert len(backup.listing(path)) == backup.NEWEST


def test_unfinished_copies_of_dead_processes_go(path: Path) -> None:
    filled(path, "a")
    backup.folder(path).mkdir()
    old, young = (backup.folder(path) / f"llmquiz-20260101-00000{n}.{n}.part" for n in (1, 2))
    old.touch()
    young.touch()
    os.utime(old, (NOON, NOON))
    with Store.open(path) as store:
        store.backup()
    assert (old.exists(), young.exists()) == (False, True)


@given(st.lists(st.integers(0, 800 * 24), min_size=1, max_size=200))
def test_thinning_keeps_the_newest_and_one_of_each_period(hours: list[int]) -> None:
    times = [datetime(2024, 1, 1) + timedelta(hours=hour) for hour in sorted(hours)]
    chosen = backup.kept(times)

    assert set(range(len(times))[-backup.NEWEST :]) <= chosen
    assert len(chosen) <= backup.NEWEST + backup.DAYS + backup.WEEKS + backup.MONTHS
    newest = times[-1]
    for number, at in enumerate(times):
        later_that_day = any(other.date() == at.date() for other in times[number + 1 :])
        if (newest.date() - at.date()).days < backup.DAYS and not later_that_day:
            assert number in chosen


@given(st.lists(st.integers(0, 800 * 24), min_size=1, max_size=60))
def test_thinning_again_removes_nothing_more(hours: list[int]) -> None:
    times = [datetime(2024, 1, 1) + timedelta(hours=hour) for hour in sorted(hours)]
    left = [times[number] for number in sorted(backup.kept(times))]

    assert backup.kept(left) == set(range(len(left)))


def test_a_restored_database_is_the_one_that_was_copied(path: Path) -> None:
    filled(path, "a")
    with Store.open(path) as store:
        copy = store.backup(now=NOON)
    filled(path, "a", "b")
    backup.restore(copy, path)

    assert cards_of(path) == {"a"}
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    connection.close()


def test_a_database_that_is_open_elsewhere_is_not_restored(path: Path) -> None:
    filled(path, "a")
    with Store.open(path) as store:
        copy = store.backup(now=NOON)
        store.sync([make_deck(make_card("b"))], now=NOON)
        with pytest.raises(StoreError, match="is in use by another llmquiz; close it"):
            backup.restore(copy, path)
    assert cards_of(path) == {"b"}


def test_a_copy_with_pages_of_another_size_is_restored(path: Path, tmp_path: Path) -> None:
    filled(path, "a")
    other = tmp_path / "large.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    copy = sqlite3.connect(other, isolation_level=None)
    with sqlite3.connect(path) as connection:
        connection.backup(copy)
    connection.close()
    copy.execute("PRAGMA page_size = 8192")
    copy.execute("VACUUM")
    copy.close()
    filled(path, "a", "b")
    backup.restore(other, path)

    assert cards_of(path) == {"a"}


@pytest.mark.slow
def test_killed_while_restoring_it_is_the_old_one_or_the_new_one(path: Path) -> None:
    filled(path, *(f"old-{number}" for number in range(300)))
    with Store.open(path) as store:
        old = store.backup(now=NOON)
        store.sync([make_deck(*(make_card(f"new-{number}") for number in range(300)))], now=NOON)
        new = store.backup(now=NOON + 60)
    code = (
        "import sys; from pathlib import Path; from llmquiz.store import backup; a, b, to = map(Path, sys.argv[1:])\n"
    )
    code += "print(flush=True)\nwhile True: backup.restore(a, to); backup.restore(b, to)"
    seen = set()
    for number in range(12):
        command = [sys.executable, "-c", code, str(old), str(new), str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(0.01 + 0.013 * number)
            child.send_signal(signal.SIGKILL)
        found = health.inspect(path)
        assert found.problems == ()
        names = {name.partition("-")[0] for name in cards_of(path)}
        assert len(names) == 1
        seen |= names
    assert seen <= {"old", "new"}
