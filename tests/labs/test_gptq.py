"""The GPTQ lab on the shipped base: bits from the formula, errors that agree with each other, at one width."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from llmquiz.lab.sdk import LabError  # noqa: E402
from llmquiz.llm.base import load  # noqa: E402
from llmquiz.llm.base.saving import save_model  # noqa: E402
from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import random_decoder  # noqa: E402

from .running import Results, run_here  # noqa: E402

pytestmark = pytest.mark.labs

SMALL = {"BITS": (3,), "ALPHAS": 1, "UNSEEN": 1, "WINDOW": 64}
OF_TRAINED_WEIGHTS = {"outputs-nearer", "weights-further", "less-damage", "calibration-matters"}


@pytest.fixture
def random_model(tmp_path: Path) -> str:
    config = ModelConfig(2112, 32, 1, 2, 1, 16, 64, max_position=64)  # more logits than the tokenizer has ids
    save_model(random_decoder(config, seed=1), load.FOLDER / "tokenizer.json", tmp_path, dtype=torch.float32)
    return str(tmp_path)


def small(**params: object) -> Results:
    return run_here("gptq", SMALL, **{"tokens": 128, "group": 16, **params})


def test_its_numbers_agree_with_each_other(random_model: str) -> None:
    results = small(model=random_model)
    metrics = results.metrics
    widths, calibration = results.tables
    rows = {row[0]: row[1:] for row in widths.rows}

    assert results.broken <= OF_TRAINED_WEIGHTS
    assert list(rows) == ["as it is", "RTN, 3 bits", "AWQ, 3 bits", "GPTQ, 3 bits"]
    assert rows["RTN, 3 bits"][0] == metrics["bits_per_weight"] == 3 + 19 / 16
    assert rows["GPTQ, 3 bits"][0] == rows["RTN, 3 bits"][0] < rows["AWQ, 3 bits"][0]  # AWQ keeps its scales
    assert metrics["output_error_ratio"] == pytest.approx(rows["RTN, 3 bits"][2] / rows["GPTQ, 3 bits"][2])
    assert metrics["weight_error_ratio"] == pytest.approx(rows["GPTQ, 3 bits"][1] / rows["RTN, 3 bits"][1])
    assert all(perplexity == pytest.approx(math.exp(loss)) for *_, loss, perplexity in rows.values())
    assert {point.series: point.y for point in results.points} == {
        name.partition(",")[0]: row[4] for name, row in rows.items() if name != "as it is"
    }
    assert calibration.rows[2][2] == rows["RTN, 3 bits"][4]
    added = {name: loss for name, loss, _ in calibration.rows}
    assert added["GPTQ on text"] == pytest.approx(rows["GPTQ, 3 bits"][3] - rows["as it is"][3])
    assert metrics["calibration_ratio"] == pytest.approx(added["GPTQ on random tokens"] / added["GPTQ on text"])


def test_what_cannot_work_is_refused(random_model: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="do not divide a row"):
        small(model=random_model, group=24)
    with pytest.raises(LabError, match="128 tokens are less than one text of 256"):
        run_here("gptq", {**SMALL, "WINDOW": 256}, tokens=128, model=random_model)
    with pytest.raises(ModelError, match="neither a folder"):
        small(model=str(tmp_path / "nowhere"))
