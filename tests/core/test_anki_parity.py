"""The schedule is Anki's: same states, intervals, stability and difficulty as its real backend, answer by answer.

What remains are intervals that differ by one, a day of a long one or a second of a step that FSRS sets: Anki computes
in 32-bit floats, we in 64 bits, and a number that lies within a few millionths of the edge of its rounding falls to the
other side. How many there are is chance, for the present moves with the clock; so each must lie that near, and none may
be off for another reason.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("anki.collection")

FLOAT32 = 5e-6  # relative error of Anki's interval: some dozens of roundings of 6e-8, and a difference of near numbers
DRIVER = Path(__file__).with_name("anki_parity.py")


def run(answers: int, seed: int) -> dict[str, Any]:
    command = [sys.executable, str(DRIVER), "--answers", str(answers), "--seed", str(seed)]
    root = DRIVER.parent.parent.parent
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout))


def assert_parity(tally: dict[str, Any]) -> None:
    story = (
        f"{tally['intervals']} intervals of {tally['answers']} answers: {tally['off_by_one']} off by one "
        f"(at most {tally['farthest_from_edge']:.1e} of their length from where rounding turns), "
        f"{tally['wrong']} wrong; memories: largest error {tally['largest_memory_error']:.1e}; {tally['examples']}"
    )
    assert tally["wrong"] == 0, story
    assert tally["states"] == tally["rows_off"] == tally["memories_off"] == 0, story
    assert tally["farthest_from_edge"] <= FLOAT32, story
    assert tally["off_by_one"] <= max(tally["intervals"] * 0.005, 3), story


def test_schedules_as_anki_does() -> None:
    tally = run(answers=400, seed=7)
    assert tally["answers"] >= 400
    assert_parity(tally)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_schedules_as_anki_does_over_thousands_of_answers(seed: int) -> None:
    tally = run(answers=6000, seed=seed)
    assert tally["answers"] >= 5900
    assert_parity(tally)
