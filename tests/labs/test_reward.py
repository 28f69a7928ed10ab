"""The reward lab: its numbers must agree with each other, and each fault must break its own claim."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")

from llmquiz.lab.sdk import LabError  # noqa: E402
from llmquiz.llm.align import reward  # noqa: E402
from llmquiz.llm.base import load  # noqa: E402

from .running import run_here  # noqa: E402

pytestmark = pytest.mark.labs

LEARNED = {"better-than-its-labels"}  # judged at the default size; so little training need not get there


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_its_numbers_agree_with_each_other() -> None:
    results = run_here("reward", {"TEST_PAIRS": 1000}, size="tiny", noise=0.2)
    metrics, (table,) = results.metrics, results.tables
    rows = {row[0]: row for row in table.rows}

    assert results.broken <= LEARNED
    assert metrics["first_loss"] == pytest.approx(math.log(2))
    assert metrics["loss_floor"] == pytest.approx(-0.2 * math.log(0.2) - 0.8 * math.log(0.8))
    assert rows["noise 0.2"][2] == metrics["accuracy_noisy"]
    assert rows["noise 0"][2] == rows["noise 0"][4]  # labels without noise are the truth
    assert rows["first token"][4] == 0.5
    assert metrics["first_token_loss"] == pytest.approx(math.log(2))
    assert metrics["padding_shift"] < 1e-5 < metrics["padding_shift_last_column"]
    assert {point.series for point in results.points} == set(rows)


def test_pooling_by_counting_from_the_row_end_breaks_a_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    """The classic fault: the last position of a padded row instead of the last real token."""
    monkeypatch.setattr(reward, "last_real_token", lambda mask: torch.full((len(mask),), mask.size(1) - 1))
    results = run_here("reward", {"TEST_PAIRS": 200}, size="tiny")

    assert "padding-invariant" in results.broken


@pytest.mark.slow
def test_a_backbone_of_the_user_learns_from_pairs_in_words() -> None:
    results = run_here("reward", {"TEST_PAIRS": 200, "OWN_STEPS": 9}, size="tiny", model=str(load.FOLDER))
    table = results.tables[-1]
    rows = {row[0]: row[1:] for row in table.rows}

    assert list(rows) == ["12 learned", "4 unseen"]
    for first_loss, _, before, after, shift in rows.values():
        assert first_loss == pytest.approx(math.log(2))
        assert before == 0.5  # every score is 0
        assert 0 <= after <= 1
        assert shift < 1e-4
    learned = rows["12 learned"]
    assert learned[1] < learned[0]
    assert learned[3] > 0.5
    curve = [point.y for point in results.points if point.series == "your model"]
    assert len(curve) == 9
    assert curve[0] == pytest.approx(math.log(2))
    assert results.broken <= LEARNED


def test_a_backbone_of_another_family_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = load.LanguageModel(torch.nn.Identity(), load.base_model().tokenizer, "other")
    monkeypatch.setattr(load, "base_model", lambda *_, **__: other)
    with pytest.raises(LabError, match="use a model of the Llama family"):
        run_here("reward", size="tiny", model="other")
