"""The DPO lab: its tables are the model's own probabilities, and its numbers agree with each other."""

from __future__ import annotations

import math
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.lab.sdk import Params  # noqa: E402
from llmquiz.llm.base.load import FOLDER  # noqa: E402
from llmquiz.llm.errors import ModelError  # noqa: E402

from .running import Results, load_script, run_here  # noqa: E402

pytestmark = pytest.mark.labs

BETA = 0.5


@pytest.fixture(scope="module")
def lab() -> Any:
    """The lab's module."""
    return load_script("dpo")


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


def test_the_table_is_the_probability_of_every_completion(task: Any) -> None:
    letters, length = task.size.letters, task.size.length
    texts = torch.cartesian_prod(*[torch.arange(letters)] * (length + 1))
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


OWN = "your model, DPO with LoRA"


def check_own_model(results: Results, steps: int) -> None:
    """What holds of any model: DPO starts at ln 2, and its loss on the pairs falls with the margin's growth."""
    table = next(table for table in results.tables if table.name == OWN)
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    for name in ("12 learned", "4 unseen"):
        before, after = rows[f"{name}, before"], rows[f"{name}, after"]
        assert before["loss"] == pytest.approx(math.log(2), abs=1e-5)
        assert before["accuracy"] == 0.5
        assert before["chosen"] == before["rejected"] == 0.0  # LoRA starts as the base, to the bit
        grown = after["margin"] - before["margin"]
        assert grown == pytest.approx(after["chosen"] - after["rejected"], abs=1e-3)
    assert rows["12 learned, after"]["loss"] < rows["12 learned, before"]["loss"]
    assert rows["12 learned, after"]["accuracy"] > 0.5
    assert "first-loss" not in results.broken
    for metric in ("chosen_shift", "rejected_shift"):
        curve = [point for point in results.points if point.metric == metric and point.series == "your model"]
        assert [point.x for point in curve] == list(range(steps))
        assert curve[0].y == pytest.approx(0.0, abs=1e-4)


@pytest.mark.slow
def test_a_model_of_the_user_learns_from_pairs_in_words(results: Results) -> None:
    own = run_here("dpo", size="tiny", steps=6, model=str(FOLDER))

    check_own_model(own, steps=6)
    assert len(own.tables) == len(results.tables) + 1  # the rest of the run is as it was
    assert own.metrics.keys() == results.metrics.keys()


def test_a_folder_without_a_model_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        run_here("dpo", size="tiny", model=str(tmp_path))


def save_foreign(folder: Path, config: Any) -> str:
    """A small random model of transformers, with the shipped tokenizer."""
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    shutil.copy(FOLDER / "tokenizer.json", folder)
    return str(folder)


@pytest.mark.slow
def test_a_model_of_another_family_learns_too(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import GPT2Config, GPTNeoXConfig

        shape = {"vocab_size": 2048, "max_position_embeddings": 256, "hidden_size": 32}
        neox = GPTNeoXConfig(**shape, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
        own = run_here("dpo", size="tiny", steps=6, model=save_foreign(tmp_path / "neox", neox))
        gpt2 = save_foreign(tmp_path / "gpt2", GPT2Config(vocab_size=2048, n_embd=32, n_layer=1, n_head=2))
        ours = run_here("dpo", size="tiny", steps=6, model=gpt2)

    check_own_model(own, steps=6)
    check_own_model(ours, steps=6)
