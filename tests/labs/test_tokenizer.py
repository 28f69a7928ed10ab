"""The tokenizer lab: its counts agree with each other, and it refuses a vocabulary that the text cannot fill."""

from __future__ import annotations

import pytest

pytest.importorskip("tokenizers")

from llmquiz.lab.sdk import LabError

from .running import Results, run_here

pytestmark = pytest.mark.labs


@pytest.fixture(scope="module")
def results() -> Results:
    return run_here("tokenizer", {"HELD_OUT_DOCUMENTS": 20, "RANDOM_TEXTS": 20}, vocab_size=640, kilobytes=40)


def test_every_claim_holds_in_a_small_run(results: Results) -> None:
    assert results.broken == set()


def test_bytes_are_the_first_vocabulary_and_cost_what_utf8_says(results: Results) -> None:
    rows = results.tables[0].rows

    assert rows[0][:4] == (261, 1.0, 3.0, 3.0)
    assert rows[-1][0] == 640
    assert results.metrics["chinese_tokens_per_character_bytes"] == 3.0


def test_the_penalty_is_the_ratio_of_the_last_row(results: Results) -> None:
    last = results.tables[0].rows[-1]

    assert results.metrics["tokens_per_character"] == last[1]
    assert results.metrics["unseen_penalty"] == pytest.approx(last[3] / last[2])
    assert [point.y for point in results.points if point.series == "Chinese"][-1] == last[2]


def test_the_library_stands_beside_ours(results: Results) -> None:
    ours, theirs = results.tables[1].rows

    assert (ours[0], theirs[0]) == ("ours", "tokenizers")
    assert results.claims["same-compression"].measured == pytest.approx(ours[4] / theirs[4])
    assert results.metrics["encoding_over_tokenizers"] == pytest.approx(ours[3] / theirs[3])


def test_more_tokens_than_the_text_holds_are_refused() -> None:
    with pytest.raises(LabError, match="more text or fewer"):
        run_here("tokenizer", vocab_size=32_768, kilobytes=20)
