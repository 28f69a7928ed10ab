"""An answer that was acknowledged survives SIGKILL, and so does the file."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llmquiz.store import Store
from tests.support.making import NOON, make_card, make_deck

KILLS = 25
CARDS = 40
ROOT = Path(__file__).parent.parent.parent


def answer_until_killed(path: Path, acknowledgements: int) -> list[tuple[int, int, int]]:
    """What the child had acknowledged when it was killed, right after that many lines were read."""
    command = [sys.executable, str(Path(__file__).with_name("crash_child.py")), str(path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    ) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(acknowledgements)]
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
    whole = [line for line in lines if line.endswith("\n")]
    return [tuple(int(word) for word in line.split()) for line in whole]  # type: ignore[misc]


def check(store: Store, acknowledged: dict[int, tuple[int, int]]) -> None:
    assert store.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    for schedule, (reps, due) in acknowledged.items():
        kept = store.schedule(schedule)
        assert kept.reps >= reps
        assert len(store.history(schedule)) == kept.reps
        if kept.reps == reps:
            assert kept.due == due


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("kills", [3, pytest.param(KILLS, marks=pytest.mark.slow)])
def test_every_acknowledged_answer_is_in_the_log_with_its_schedule(tmp_path: Path, kills: int) -> None:
    path, chance = tmp_path / "llmquiz.db", random.Random(3)
    with Store.open(path) as store:
        store.sync([make_deck(*(make_card(f"c{number}") for number in range(CARDS)))], now=NOON)
    acknowledged: dict[int, tuple[int, int]] = {}
    for round_number in range(kills):
        with Store.open(path) as store:
            store.set_meta("now", str(NOON + round_number * 9 * 86_400))
        for schedule, reps, due in answer_until_killed(path, chance.randrange(1, 30)):
            acknowledged[schedule] = (reps, due)
        with Store.open(path) as store:
            check(store, acknowledged)
    assert sum(reps for reps, _ in acknowledged.values()) >= kills
