"""The tokenizer lab: its counts agree with each other, and it refuses a vocabulary that the text cannot fill."""

from __future__ import annotations

from pathlib import Path

import pytest

tokenizers = pytest.importorskip("tokenizers")

from llmquiz.lab.sdk import LabError  # noqa: E402
from llmquiz.llm.data.bpe import ByteBPE  # noqa: E402
from llmquiz.llm.errors import ModelError  # noqa: E402

from .running import Results, run_here  # noqa: E402

pytestmark = pytest.mark.labs


def small(**params: object) -> Results:
    constants = {"HELD_OUT_DOCUMENTS": 20, "RANDOM_TEXTS": 20}
    return run_here("tokenizer", constants, vocab_size=640, kilobytes=40, **params)


@pytest.fixture(scope="module")
def results() -> Results:
    return small()


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


def test_a_tokenizer_of_the_user_is_a_row_and_a_point_and_changes_no_other(results: Results, tmp_path: Path) -> None:
    ByteBPE([]).save(tmp_path / "tokenizer.json")  # bytes alone; no weights beside it
    joined = small(model=str(tmp_path))
    name = tmp_path.name

    assert joined.broken == set()
    assert joined.tables[0].rows[:-1] == results.tables[0].rows
    assert joined.tables[0].rows[-1] == (f"261 ({name})", 1.0, 3.0, None, 261 * 256)
    points = {point.series: (point.x, point.y) for point in joined.points if point.series.startswith(name)}
    assert points == {f"{name}, English": (261, 1.0), f"{name}, Chinese": (261, 3.0)}
    assert f"{name} gives 40 of 40 held-out texts back exactly" in joined.notes


def test_a_tokenizer_that_drops_what_it_cannot_spell_is_found_out(tmp_path: Path) -> None:
    foreign = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
    foreign.save(str(tmp_path / "tokenizer.json"))
    joined = small(model=str(tmp_path))

    assert joined.tables[0].rows[-1][2] == 0.0  # no Chinese character costs anything
    assert f"{tmp_path.name} gives 0 of 40 held-out texts back exactly" in joined.notes


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json: no tokenizer here"):
        small(model=str(tmp_path))
