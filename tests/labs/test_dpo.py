"""The DPO lab: its tables are the model's own probabilities, and its numbers agree with each other."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.lab.child import load_run  # noqa: E402
from llmquiz.lab.sdk import Params  # noqa: E402

from .running import LABS, Results, run_here  # noqa: E402

pytestmark = pytest.mark.labs

BETA = 0.5


@pytest.fixture(scope="module")
def lab() -> Any:
    """The lab's module."""
    return sys.modules[load_run(LABS / "dpo" / "lab.py", "dpo").__module__]


@pytest.fixture(scope="module")
def task(lab: Any) -> Any:
    return lab.prepare(Params({"beta": BETA, "size": "tiny", "steps": 0}))


@pytest.fixture(scope="module")
def results() -> Results:
    """Of a run too short to reach the optimum."""
    return run_here("dpo", size="tiny", steps=25)


def test_its_numbers_agree_with_each_other(results: Results) -> None:
    metrics, rows = results.metrics, {}
    for table in results.tables:
        for row in table.rows:
            rows.setdefault((row[0], row[1]), {}).update(zip(table.columns, row, strict=True))

    assert set(results.claims) == {
        "first-loss",
        "chosen-falls",
        "smaller-beta-more-kl",
        "closed-form",
        "sums-not-means",
        "reference-anchors",
        "reference-free",
    }
    assert metrics["first_loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert rows["IPO", BETA]["first loss"] == pytest.approx(1 / (4 * BETA**2), rel=1e-5)
    assert rows["KTO", BETA]["first loss"] == pytest.approx(0.5, abs=1e-6)
    assert metrics["kl"] == rows["DPO", BETA]["KL"]
    assert metrics["kl_growth"] == pytest.approx(rows["DPO", 2 * BETA]["KL"] / rows["DPO", 4 * BETA]["KL"])
    assert metrics["means_kl_ratio"] == pytest.approx(
        rows["DPO on means", 2 * BETA]["KL"] / rows["DPO", 2 * BETA]["KL"]
    )
    assert metrics["chosen_shift"] == rows["DPO", BETA / 2]["chosen"]
    assert [name for (name, _), row in rows.items() if not row["reference"]] == ["SimPO", "ORPO", "DPO, no reference"]


def test_no_policy_beats_the_closed_form_for_its_kl(results: Results) -> None:
    """The points of every arm lie below the curve of the optimum."""
    frontier = sorted((point.x, point.y) for point in results.points if point.series == "optimum")
    for point in results.points:
        above = [reward for kl, reward in frontier if kl >= point.x]
        assert point.y <= min(above, default=math.inf) + 1e-4


def test_the_table_is_the_probability_of_every_completion(lab: Any, task: Any) -> None:
    letters, length = task.size.letters, task.size.length
    texts = lab.every_text(letters, length + 1)
    with torch.no_grad():
        log_p = task.model(texts).log_softmax(-1)
    one_by_one = sum(log_p[:, n].gather(1, texts[:, n + 1, None]) for n in range(length)).view(letters, -1)

    torch.testing.assert_close(task.reference, one_by_one)
    torch.testing.assert_close(task.reference.exp().sum(1), torch.ones(letters))
    torch.testing.assert_close(task.pairs.sum((1, 2)), torch.ones(letters))


def test_labels_follow_the_hidden_reward(lab: Any, task: Any) -> None:
    """Among many drawn pairs, the better one was chosen as often as Bradley and Terry say."""
    prompts, chosen, rejected = (
        torch.cat(part) for part in zip(*(lab.draw_pairs(task) for _ in range(60)), strict=True)
    )
    gap = task.rewards[prompts, chosen] - task.rewards[prompts, rejected]
    right, expected = (gap > 0).float().mean(), torch.sigmoid(gap.abs()).mean()

    assert float(right / (gap != 0).float().mean()) == pytest.approx(
        float((torch.sigmoid(gap.abs()) * (gap != 0)).sum() / (gap != 0).sum()), abs=0.02
    )
    assert expected > 0.5


def test_the_optimum_is_one(task: Any) -> None:
    """E[r] - beta KL falls in every direction."""

    def value(log_p: Any) -> float:
        return float(task.reward(log_p) - BETA * task.kl(log_p))

    best = task.optimum(BETA)
    noise = torch.randn(5, *best.shape, generator=torch.Generator().manual_seed(0))

    assert all(value((best + 0.3 * part).log_softmax(1)) < value(best) for part in noise)
