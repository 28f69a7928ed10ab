"""The lab of speculative decoding: its numbers follow from each other and from the formula."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

from llmquiz.lab.events import TableReported
from llmquiz.lab.sdk import LabError

from .peers import without_peers
from .running import Results, run_here

pytestmark = pytest.mark.labs

EXACT = {"same-tokens"}  # hold at any size


def small(**params: Any) -> Results:
    return run_here("speculative", **{"tokens": 120, "new_tokens": 8, "tokens_ahead": 3, **params})


def table(results: Results, name: str) -> TableReported:
    return next(found for found in results.tables if name in found.name)


@pytest.mark.slow
def test_its_numbers_agree_with_each_other() -> None:
    with without_peers():
        results = small()
    metrics = results.metrics

    assert set(results.claims) - results.broken >= EXACT
    rows = table(results, "independent").rows
    assert [row[:2] for row in rows[:3]] == [("close", 3), ("middling", 3), ("far", 3)]
    assert [row[1] for row in rows[3:]] == [1, 2, 6]
    for _, ahead, overlap, accepted, expected, tokens in rows:
        assert expected == pytest.approx((1 - overlap ** (ahead + 1)) / (1 - overlap))
        assert accepted == pytest.approx(overlap, abs=0.25)
        assert 1 <= tokens <= ahead + 1
    assert rows[3][5] == 1 + rows[3][3]  # one token ahead: a pass yields itself and what is accepted
    assert (metrics["acceptance"], metrics["tokens_a_pass"]) == (rows[1][3], rows[1][5])
    assert metrics["chi_square"] == table(results, "target's").rows[0][1]
    base = table(results, "llmquiz-base").rows
    assert [row[0] for row in base] == ["story"] * 3 + ["recall"] * 3
    assert all(1 <= row[3] <= 4 for row in base)
    assert all(row[4] == 0 for row in base if row[1] == "n-grams of the text")
    assert (metrics["rounded"], metrics["copied"]) == (base[2][3], base[3][3])


@pytest.mark.slow
def test_transformers_finds_the_same_tokens() -> None:
    pytest.importorskip("transformers")
    results = small()

    assert [claim.measured for claim in results.tested if claim.name == "same-tokens"] == [0, 0, 0]


def nothing(*_: object) -> None:
    """In place of the parts that need no model."""


@pytest.mark.parametrize(
    ("lab", "parts"),
    [
        ("speculative", ["report_formula", "report_passages", "report_distribution"]),
        ("beam", ["report_exhaustive", "report_widths"]),
        ("json", []),
    ],
)
def test_a_model_of_another_family_is_refused(monkeypatch: pytest.MonkeyPatch, lab: str, parts: list[str]) -> None:
    import torch

    from llmquiz.llm.base import load

    whole = load.base_model()
    other = load.LanguageModel(torch.nn.Identity(), whole.tokenizer, "other")
    monkeypatch.setattr(load, "base_model", lambda *_, **__: other)
    with pytest.raises(LabError, match="use a model of the Llama family"):
        run_here(lab, dict.fromkeys(parts, nothing))
