"""The PPO lab: its numbers must agree with each other, and a wrong objective must break its claims."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.lab.sdk import LabError  # noqa: E402
from llmquiz.llm.align import ppo  # noqa: E402
from llmquiz.llm.base.load import FOLDER, LanguageModel, base_model  # noqa: E402

from .running import run_here  # noqa: E402

pytestmark = pytest.mark.labs


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_its_numbers_agree_with_each_other() -> None:
    results = run_here("ppo", size="tiny", beta=1.0)
    metrics, (table,) = results.metrics, results.tables
    rows = {row[0]: row for row in table.rows}

    assert results.broken == set()
    assert list(rows) == [3.0, 1.0, pytest.approx(1 / 3), 0.0]
    assert rows[1.0][1:5] == tuple(metrics[name] for name in ("score", "score_theory", "kl", "kl_theory"))
    assert rows[1.0][6] == metrics["true_score"]
    assert rows[0.0][7] == metrics["hacked_share"]
    assert metrics["slope"] == pytest.approx(1.0, abs=0.2)
    assert metrics["clip_fraction_single"] == 0.0 < metrics["clip_fraction"]
    assert any("13 possible answers" in note for note in results.notes)


@pytest.mark.slow
def test_no_policy_lies_above_the_frontier() -> None:
    """The optimum at beta maximises score - beta KL: no point of any curve may do better."""
    results = run_here("ppo", {"EPOCHS": 1}, size="tiny")
    score, kl = results.metrics["score_theory"], results.metrics["kl_theory"]
    best = score - 0.5 * kl

    assert len([point for point in results.points if point.series == "optimum"]) == 25
    assert all(point.y - 0.5 * point.x <= best + 1e-6 for point in results.points)


@pytest.mark.slow
def test_a_penalty_with_the_wrong_sign_breaks_the_optimum(monkeypatch: pytest.MonkeyPatch) -> None:
    right = ppo.token_rewards

    def wrong(scores: Any, logprobs: Any, reference_logprobs: Any, mask: Any, beta: float) -> Any:
        return right(scores, logprobs, reference_logprobs, mask, -beta)

    monkeypatch.setattr(ppo, "token_rewards", wrong)

    assert "known-optimum" in run_here("ppo", size="tiny").broken


@pytest.mark.slow
def test_a_model_of_the_readers_own_learns_sums_besides() -> None:
    alone = run_here("ppo", size="tiny")
    besides = run_here("ppo", {"EXAM": 8}, size="tiny", model=str(FOLDER))
    (_, right, kl), (_, _, kl_after) = besides.tables[-1].rows
    curve = [point for point in besides.points if point.series == "your model"]

    assert besides.metrics == alone.metrics
    assert besides.tables[:-1] == alone.tables
    assert 0 <= right <= 1
    assert kl == pytest.approx(0.0, abs=1e-5)
    assert kl_after != pytest.approx(0.0, abs=1e-5)
    assert len(curve) == 4
    assert curve[0].x == pytest.approx(0.0, abs=1e-5)


def test_a_model_without_our_cache_is_refused_before_anything_is_run() -> None:
    other = LanguageModel(torch.nn.Linear(1, 1), base_model().tokenizer, "other")
    with pytest.raises(LabError, match="Llama family"):
        run_here("ppo", {"base_model": lambda name, device: other}, size="tiny", model="other")
