"""The schedule is Anki's: same states, intervals, stability and difficulty as its real backend, answer by answer.

What remains are intervals of decades that differ by a day: Anki computes in 32-bit floats, we in 64 bits, and a number
that lies within a few millionths of a half day rounds to the other side.
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
        f"{tally['intervals']} intervals of {tally['answers']} answers: {tally['off_by_a_day']} a day off, "
        f"{tally['wrong']} wrong; memories: largest error {tally['largest_memory_error']:.1e}; {tally['examples']}"
    )
    assert tally["wrong"] == 0, story
    assert tally["states"] == tally["rows_off"] == tally["memories_off"] == 0, story
    assert tally["off_below_ten_years"] <= tally["intervals"] * 0.0001, story
    assert tally["off_by_a_day"] <= max(tally["intervals"] * 0.0005, 3), story


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
