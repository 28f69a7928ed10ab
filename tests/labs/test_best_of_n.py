"""The best-of-n lab: its numbers follow from each other, and what cannot work is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from llmquiz.lab.sdk import LabError

from .running import run_here

pytestmark = pytest.mark.labs

SMALL = {
    "SENTENCES": 1,
    "SENTENCE_DRAWS": 4,
    "SEEDED": 1,
    "LINE_TOKENS": 5,
    "PROMPT": 16,
    "TEMPERATURES": [3.0, 2.5, 2],
}
EXACT = {"one-seed", "same-whatever-n", "prompt-once"}  # hold for any number of problems


def test_its_numbers_agree_with_each_other() -> None:
    results = run_here("best-of-n", SMALL, problems=4, draws=16, chance=0.3)
    metrics = results.metrics
    law, estimates, rankings, prompt, lengths = results.tables
    eight = next(row for row in law.rows if row[0] == 8)

    assert set(results.claims) - results.broken >= EXACT
    assert [row[0] for row in law.rows] == [1, 2, 4, 8, 16]
    assert law.rows[0][2] == pytest.approx(law.rows[0][3])  # the mean over problems is the mean
    assert all(row[2] <= row[3] + 1e-9 for row in law.rows)  # and more draws of it promise too much
    assert metrics["pass_at_8"] == eight[1]
    assert metrics["pooled_excess"] == eight[3] - eight[1]
    assert metrics["plug_in_shortfall"] == estimates.rows[1][1] - estimates.rows[2][1] >= 0
    right = dict(rankings.rows)
    assert right["any"] == max(right.values())
    assert metrics["positions_saved"] == prompt.rows[1][1] - prompt.rows[0][1] == 7 * 16
    assert prompt.rows[0][1] == 16 + 7 * 8  # the prompt, then seven passes over a token of eight rows
    assert metrics["length_ratio"] == pytest.approx(lengths.rows[1][1] / lengths.rows[2][1])
    assert len(results.points) == 3 * 5


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"config\.json"):
        run_here("best-of-n", SMALL, model=str(tmp_path))
    with pytest.raises(LabError, match="solves at most 0% of the easy problems"):
        run_here("best-of-n", {**SMALL, "TEMPERATURES": [1000.0]}, problems=4)
