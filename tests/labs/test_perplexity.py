"""The perplexity lab: formulas that tie its numbers together, its bigram model, and a text that is too short."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from llmquiz.lab.sdk import LabError  # noqa: E402

from .running import Results, load_script, run_here  # noqa: E402

pytestmark = pytest.mark.labs

SMALL = {"NUM_DOCUMENTS": 12, "LEARNED_DOCUMENTS": 150, "BIGRAM_VOCABULARY": 400}


@pytest.fixture(scope="module")
def results() -> Results:
    return run_here("perplexity", SMALL, window=32, tokens=256)


def table(results: Results, name: str) -> dict[Any, tuple[Any, ...]]:
    return {row[0]: row[1:] for found in results.tables if found.name == name for row in found.rows}


def test_what_is_exact_holds_in_a_small_run(results: Results) -> None:
    assert {"beginning", "by-token", "one-pass", "units"}.isdisjoint(results.broken)


def test_a_uniform_guess_has_the_vocabulary_for_its_perplexity(results: Results) -> None:
    text = table(results, "one text")

    for unit, V in (("bytes", 261), ("tokens", 400)):
        vocabulary, tokens, perplexity, bits = text[f"no knowledge, {unit}"]
        assert vocabulary == V
        assert perplexity == pytest.approx(V, rel=1e-4)
        num_bytes = tokens * math.log2(V) / bits
        assert num_bytes == pytest.approx(round(num_bytes), abs=0.01)


def test_bits_per_byte_follow_from_perplexity_and_tokens(results: Results) -> None:
    text = table(results, "one text")
    models = {name: row for name, row in text.items() if row[0] is not None}
    sizes = {round(tokens * math.log2(perplexity) / bits) for _, tokens, perplexity, bits in models.values()}

    assert len(models) == 5
    assert len(sizes) == 1  # all of them scored the same bytes
    assert results.metrics["bits_per_byte"] == text["llmquiz-base"][3]


def test_the_cost_of_a_stride_is_counted(results: Results) -> None:
    strides = table(results, "strides")

    assert set(strides) == {32, 16, 8, 4}
    assert strides[32][1] == pytest.approx(1.0)
    assert strides[4][1] == pytest.approx((32 + 56 * 32) / 256)  # the first window, then 56 of 4 new tokens
    assert results.metrics["stride_cost"] == strides[4][1]


def test_a_short_text_is_refused() -> None:
    with pytest.raises(LabError, match="more tokens"):
        run_here("perplexity", SMALL, window=128, tokens=64)


def test_a_model_that_is_not_there_is_one_line() -> None:
    with pytest.raises(LabError, match="nowhere"):
        run_here("perplexity", SMALL, model="./nowhere/at-all")


def test_the_bigram_model_is_a_distribution_with_the_texts_frequencies() -> None:
    lab = load_script("perplexity")
    tokens = torch.tensor([0, 1, 0, 1, 0, 2, 0, 1])
    probabilities = lab.Bigram(tokens, 4)(torch.tensor([[0, 3]])).exp()[0]

    torch.testing.assert_close(probabilities.sum(-1), torch.ones(2))
    assert probabilities[0].argmax() == 1
    assert (probabilities > 0).all()
    torch.testing.assert_close(probabilities[1], torch.tensor([4.0, 4.0, 2.0, 1.0]) / 11)  # unseen: frequencies alone
