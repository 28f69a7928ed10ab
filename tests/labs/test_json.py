"""The JSON lab: its judge, and numbers that follow from each other."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

from .running import Results, load_script, run_here

pytestmark = pytest.mark.labs

TIMED = {"kept-masks"}


def small(**params: Any) -> Results:
    return run_here("json", {"BASE_DOCUMENTS": 2}, **{"documents": 4, "new_tokens": 40, **params})


def test_its_numbers_agree_with_each_other() -> None:
    results = small()
    metrics = results.metrics
    validity, mass, cost, language = results.tables

    assert results.broken <= TIMED
    assert [row[1] for row in validity.rows] == [0, metrics["valid_cut"], 100]
    assert validity.rows[0][2:] == (0, 0)
    for row in validity.rows[1:]:
        assert row[2] == pytest.approx(row[3], abs=5)  # random weights know no token from another
    removed = sum(row[1] * row[2] for row in mass.rows) / sum(row[1] for row in mass.rows)
    assert removed == pytest.approx(metrics["mass_removed"])
    assert mass.rows[-1][2] > mass.rows[0][2]
    assert metrics["mask_share"] == pytest.approx(100 * cost.rows[0][2])
    given = [row[1] for row in language.rows]
    assert given == sorted(given, reverse=True)
    assert 0 < metrics["bias"] < 1
    assert len(results.points) <= 40


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ('{"name":"a","age":3,"city":"北京"}', True),
        ('{"name":"a","age":3,"city":"Paris","tags":["x","y"]}', True),
        ('{"name":"a","age":3,"city":"Rome"}', False),
        ('{"name":"a","age":true,"city":"Paris"}', False),
        ('{"name":"a","age":3,"city":"Paris","tags":[]}', False),
        ('{"name":"a","age":3,"city":"Paris","more":1}', False),
        ('{"name":"a","age":3}', False),
        ('{"name":"a","age":3,"city":"Par', False),
        ("[]", False),
    ],
)
def test_its_judge_reads_by_other_rules_than_the_automaton(text: str, valid: bool) -> None:
    assert load_script("json").is_valid(text) is valid
