"""The QAT lab at its smallest: what must hold after any number of steps, and numbers that follow from each other."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from .running import Results, run_here

pytestmark = pytest.mark.labs

EXACT = {"export-exact", "same-as-torch"}  # the others need a model that has learned something


@pytest.fixture(scope="module")
def results() -> Results:
    return run_here("qat", {"EXAM": 8, "TURNS": 1}, size="tiny", bits=3)


def test_its_numbers_agree_with_each_other(results: Results) -> None:
    metrics = results.metrics
    gaps, codes, stored, _ = results.tables
    rows = {(name, bits): gap for name, bits, gap, _ in gaps.rows}
    best = rows["trained on in fp32", 32]

    assert set(results.claims) - results.broken >= EXACT
    assert all(above == pytest.approx(gap - best) for _, _, gap, above in gaps.rows)
    assert {key for key in rows if key[0] == "rounded"} == {("rounded", bits) for bits in (8, 4, 3, 2)}
    assert metrics["fp32_gain"] == pytest.approx(rows["trained", 32] / best)
    learned = rows["QAT, learned step", 3]
    assert metrics["repaired"] == pytest.approx(100 * (rows["rounded", 3] - learned) / (rows["rounded", 3] - best))
    assert [value for _, value in codes.rows] == [metrics["codes_changed"], metrics["codes_changed_rounded"]]
    assert stored.rows[0][1] / stored.rows[1][1] == pytest.approx(metrics["weights_ratio"])


def test_codes_and_scales_are_all_that_is_stored(results: Results) -> None:
    width, layers = 32, 2
    attention, feed_forward = 4 * width * width, 3 * width * 2 * width
    weights = layers * (attention + feed_forward)
    outputs = layers * (4 * width + 2 * 2 * width + width)  # a scale each

    assert results.tables[2].rows[0][1] == 4 * weights
    assert results.tables[2].rows[1][1] == weights * 3 / 8 + 2 * outputs


def test_curves_end_at_the_gaps(results: Results) -> None:
    gaps = {name: gap for name, bits, gap, _ in results.tables[0].rows if name != "rounded"}
    last = {point.series: point.y for point in results.points}

    assert last == pytest.approx(gaps, rel=1e-5)
