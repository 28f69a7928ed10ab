"""The forgetting lab: its numbers follow from each other, and an adapter that is off leaves no trace."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from .running import Results, run_here

pytestmark = pytest.mark.labs


def small(**params: object) -> Results:
    return run_here("forgetting", {"EXAM": 4}, **{"steps": 2, "batch": 4, "length": 16, **params})


def test_its_numbers_agree_with_each_other() -> None:
    results = small(replay=0.0)
    metrics = results.metrics
    (table,) = results.tables
    rows = {row[0]: row for row in table.rows}
    before = rows["before"]

    assert list(rows) == ["before", "all weights", "with replay", "LoRA", "LoRA, adapter off"]
    assert results.claims["off-restores"].held
    assert metrics["forgotten_off"] == 0
    assert (rows["LoRA, adapter off"][2:4]) == before[2:4]
    for name, row in rows.items():
        if name != "before":
            assert row[4] == pytest.approx(row[2] - before[2])
    assert rows["with replay"][2] != rows["all weights"][2]  # of four rows one is the least that can be old
    assert metrics["forgotten"] == rows["all weights"][4]
    assert metrics["kept_by_replay"] == pytest.approx(100 * (1 - rows["with replay"][4] / rows["all weights"][4]))
    assert rows["LoRA"][1] < rows["all weights"][1] / 10
    assert {point.series for point in results.points if point.x == 2} == {"all weights", "with replay", "LoRA"}
    assert {point.y for point in results.points if point.x == 0} == {before[2]}  # every arm starts as the base model
