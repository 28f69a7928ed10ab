"""The distillation lab: a source whose entropy is exact, twins that differ in their labels, the gradient's power."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from .running import Results, run_here  # noqa: E402

pytestmark = pytest.mark.labs


@pytest.fixture(scope="module")
def results() -> Results:
    return run_here("distill", size="tiny", sequences=16)


def test_the_gradient_follows_the_law_with_any_teacher(results: Results) -> None:
    assert {"inverse-square", "matches-logits"}.isdisjoint(results.broken)


def test_every_loss_is_the_entropy_and_a_gap(results: Results) -> None:
    gaps, *_ = results.tables
    entropies = {round(loss - gap, 9) for _, gap, loss in gaps.rows}

    assert len(gaps.rows) == 7
    assert len(entropies) == 1
    assert 0 < entropies.pop() < math.log(6)
    assert all(gap > 0 for _, gap, _ in gaps.rows)


def test_ratios_are_those_of_the_table(results: Results) -> None:
    gaps = {name: gap for name, gap, _ in results.tables[0].rows}

    assert results.metrics["gap"] == gaps["soft labels, T"]
    assert results.metrics["gap_ratio"] == pytest.approx(gaps["hard labels"] / gaps["soft labels, T"])


def test_curves_end_at_the_gaps(results: Results) -> None:
    gaps = {name: gap for name, gap, _ in results.tables[0].rows}
    last = {point.series: point.y for point in results.points}

    assert last == pytest.approx(gaps, rel=1e-5)


def test_the_square_repairs_the_gradient(results: Results) -> None:
    rows = results.tables[1].rows

    assert [row[2] for row in rows] == pytest.approx([row[0] ** 2 * row[1] for row in rows])
    assert rows[-1][2] / rows[-2][2] == pytest.approx(1.0, abs=0.2)


def test_one_divergence_three_reductions(results: Results) -> None:
    ratios = [row[2] for row in results.tables[2].rows]

    assert ratios == pytest.approx([1.0, 1 / 6, 16.0], rel=1e-4)  # 6 symbols, 16 tokens a sequence
