"""The pruning lab on a model of random weights: counts and bytes from formulas, and zeros that stay or go."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from llmquiz.lab.sdk import LabError  # noqa: E402
from llmquiz.llm.base import load  # noqa: E402
from llmquiz.llm.base.saving import save_model  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import random_decoder  # noqa: E402

from .running import Results, run_here  # noqa: E402

pytestmark = pytest.mark.labs

SMALL = {"UNSEEN": 1, "WINDOW": 64, "PARTS": (0.5, 0.8), "TURNS": 1}
EXACT = {"masks-last", "zeros-do-not", "bitmap-bytes", "csr-bytes"}  # hold for any weights


@pytest.fixture
def random_model(tmp_path: Path) -> str:
    config = ModelConfig(2112, 64, 1, 2, 1, 32, 128, max_position=64)  # more logits than the tokenizer has ids
    save_model(random_decoder(config, seed=1), load.FOLDER / "tokenizer.json", tmp_path, dtype=torch.float32)
    return str(tmp_path)


def small(**params: object) -> Results:
    return run_here("prune", SMALL, **{"tokens": 128, "steps": 2, "sparsity": 0.6, **params})


def test_its_numbers_agree_with_each_other(random_model: str) -> None:
    results = small(model=random_model)
    metrics = results.metrics
    knee, scores, recovery, stored, timed = results.tables
    added = {(name, zeros): more for name, zeros, _, more in knee.rows}

    assert set(results.claims) - results.broken >= EXACT
    assert all(more == pytest.approx(loss - knee.rows[0][2]) for _, _, loss, more in knee.rows)
    assert metrics["before_knee"] == pytest.approx(100 * added["magnitude", 50.0] / added["magnitude", 80.0])
    assert [(p.series, p.x) for p in results.points] == [
        (name, part) for part in (50.0, 80.0) for name in ("magnitude", "Wanda")
    ]
    assert len(scores.rows) == 7
    assert all(wanda > 0 and ratio == pytest.approx(plain / wanda) for _, plain, wanda, ratio in scores.rows)
    assert recovery.rows[0][1] == 60.0
    assert recovery.rows[1][1] == metrics["zeros_kept"] == pytest.approx(60, abs=0.1)
    assert recovery.rows[2][1] == metrics["zeros_left"] < 5
    assert metrics["csr_ratio"] == stored.rows[0][3] == pytest.approx(0.5 * 6 / 2 + 4 * 129 / (128 * 64 * 2))
    assert len(timed.rows) == 7
    assert metrics["time_with_zeros"] == pytest.approx(timed.rows[5][2])


def test_too_little_text_is_refused(random_model: str) -> None:
    with pytest.raises(LabError, match="128 tokens are less than one text of 256"):
        run_here("prune", {**SMALL, "WINDOW": 256}, tokens=128, model=random_model)
