"""The floats lab: what its tables say follows from the bits of each format."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

pytest.importorskip("torch")

from llmquiz.lab.sdk import LabError

from .running import Results, run_here

pytestmark = pytest.mark.labs


@pytest.fixture(scope="module")
def results() -> Results:
    return run_here("floats", {"RANDOM": 5000, "GRADIENTS": 5000, "SIZE": 64}, texts=1)


def test_its_numbers_agree_with_each_other(results: Results) -> None:
    metrics = results.metrics
    formats, codes, sums, gradients, weights, perplexities, operations = results.tables
    by_name = {row[0]: row for row in weights.rows}

    assert results.broken - {"window", "fp8-as-good"} == set()  # these two are about means of many numbers
    for name, _, bits, largest, normal, smallest, epsilon in formats.rows:
        assert (name, smallest) == (name, normal * epsilon)
        assert math.log2(normal).is_integer()
        assert largest > 1 / normal or bits <= 8
    assert len(codes.rows) == 6 * 5
    assert all(row[2].replace(" ", "").strip("01") == "" for row in codes.rows)
    assert metrics["e4m3_sum"] == {row[0]: row[3] for row in sums.rows}["fp8 e4m3fn"]
    assert len(results.points) == 4 * 33
    assert [row[4] <= row[2] for row in gradients.rows] == [True] * 4
    assert metrics["bf16_loss"] == pytest.approx(by_name["fp16"][2] - by_name["bf16"][2])
    assert metrics["int8_outlier_loss"] == pytest.approx(by_name["int8 per row"][2] - by_name["int8 per row"][3])
    assert metrics["fp8_perplexity"] == perplexities.rows[1][2]
    assert len(operations.rows) == 4 * 2


def test_well_known_numbers_are_in_its_tables(results: Results) -> None:
    kept = {(row[0], row[1]): row[3] for row in results.tables[1].rows}

    assert kept["257", "bf16"] == "256"
    assert kept["70000", "fp16"] == "inf"
    assert kept["70000", "bf16"] == "70144"
    assert kept["70000", "fp8 e4m3fn"] == "448"
    assert kept["1e-08", "fp16"] == "0"


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"config\.json"):
        run_here("floats", model=str(tmp_path))
