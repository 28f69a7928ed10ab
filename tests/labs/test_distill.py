"""The distillation lab: a source whose entropy is exact, twins that differ in their labels, the gradient's power."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.base import load  # noqa: E402
from llmquiz.llm.base.saving import save_model  # noqa: E402
from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import random_decoder  # noqa: E402

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


@pytest.mark.slow
def test_a_model_of_the_user_teaches_two_more_and_changes_nothing_else(results: Results, tmp_path: Path) -> None:
    config = ModelConfig(2112, 32, 1, 2, 1, 16, 64, max_position=32)  # more logits than the tokenizer has ids
    save_model(random_decoder(config, seed=1), load.FOLDER / "tokenizer.json", tmp_path, dtype=torch.float32)
    joined = run_here("distill", size="tiny", sequences=16, model=str(tmp_path))
    *law, text = joined.tables

    assert law == results.tables
    assert (joined.metrics, joined.points, joined.claims) == (results.metrics, results.points, results.claims)
    rows = {name: (divergence, loss) for name, divergence, loss in text.rows}
    assert list(rows) == [f"{tmp_path.name}, the teacher", "hard labels", "soft labels, T"]
    assert rows[f"{tmp_path.name}, the teacher"][0] == pytest.approx(0, abs=1e-6)
    assert 0 < rows["soft labels, T"][0] < rows["hard labels"][0]  # each is best at what it learned
    assert rows["hard labels"][1] < rows["soft labels, T"][1]


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        run_here("distill", size="tiny", model=str(tmp_path))


@pytest.mark.slow
def test_a_teacher_may_be_of_any_family(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=2048, n_positions=32, n_embd=32, n_layer=1, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    shutil.copy(load.FOLDER / "tokenizer.json", tmp_path)
    text = run_here("distill", size="tiny", sequences=16, model=str(tmp_path)).tables[-1]

    assert [row[0] for row in text.rows] == [f"{tmp_path.name}, the teacher", "hard labels", "soft labels, T"]
    assert text.rows[0][1] == pytest.approx(0, abs=1e-6)
