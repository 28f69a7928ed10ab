"""The sampling lab: its tables follow from each other, and what cannot work is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from llmquiz.lab.sdk import LabError

from .running import run_here

pytestmark = pytest.mark.labs

SMALL = {"STORIES": 3, "LENGTH": 48, "TEMPERATURES": (0.5, 1.0)}
EXACT = {"order", "cold", "penalty-sign", "same-as-transformers"}  # hold on any contexts


@pytest.mark.slow  # imports transformers
def test_its_numbers_agree_with_each_other() -> None:
    results = run_here("sampling", SMALL, temperature=3.0, top_p=0.8)
    metrics = results.metrics
    heated, order, mirostat, penalties, libraries = results.tables
    rows = {row[0]: row[1:] for row in heated.rows}

    assert set(results.claims) - results.broken >= EXACT
    assert [metrics["entropy"], metrics["entropy_hot"]] == [rows[1.0][0], rows[3.0][0]]
    assert metrics["nucleus_growth"] == pytest.approx(rows[3.0][2] / rows[1.0][2])
    assert metrics["min_p_growth"] == pytest.approx(rows[3.0][3] / rows[1.0][3])
    assert all(row[1] == 40 for row in rows.values())
    assert [row[1] for row in order.rows] == [rows[1.0][2], rows[3.0][2], rows[1.0][2]]
    assert len(results.points) == 4 * len(rows)
    low, *inside, high = mirostat.rows
    assert low[0] == pytest.approx(metrics["least_surprise"] / 2)
    assert high[0] == pytest.approx(1.5 * metrics["entropy_hot"], rel=1e-5)
    assert metrics["mirostat_error"] == max(abs(row[1] - row[0]) for row in inside)
    assert metrics["shift_change"] == penalties.rows[0][2]
    assert libraries.rows[0][2] == pytest.approx(metrics["transformers_ratio"])


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"config\.json"):
        run_here("sampling", SMALL, model=str(tmp_path))
    with pytest.raises(LabError, match="only 0 stories have 4000 tokens"):
        run_here("sampling", {**SMALL, "LENGTH": 4000})
