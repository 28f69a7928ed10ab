"""Events survive their line of JSON, and no line can do harm."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmquiz.lab.events import (
    ClaimTested,
    MetricMeasured,
    Noted,
    Outcome,
    PointMeasured,
    Progressed,
    Relation,
    RunEnded,
    RunStarted,
    TableReported,
    decode,
    encode,
)

texts = st.text(st.characters(categories=("L", "N", "P", "S")), max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
cells = st.one_of(st.none(), st.booleans(), st.integers(), numbers, texts)
events = st.one_of(
    st.builds(RunStarted, texts, st.dictionaries(texts, texts), texts),
    st.builds(Progressed, st.integers(), st.integers(), texts, texts),
    st.builds(MetricMeasured, texts, numbers),
    st.builds(PointMeasured, texts, texts, numbers, numbers),
    st.builds(TableReported, texts, st.lists(texts).map(tuple), st.lists(st.lists(cells).map(tuple)).map(tuple)),
    st.builds(ClaimTested, texts, numbers, numbers, numbers, st.booleans(), st.sampled_from(Relation)),
    st.builds(Noted, texts),
    st.builds(RunEnded, st.sampled_from(Outcome), numbers, st.none() | texts, st.none() | texts, numbers),
)


@given(events)
def test_an_event_survives_its_line(event: object) -> None:
    line = encode(event)

    assert "\n" not in line
    assert decode(line) == event


@given(st.text())
def test_any_line_is_an_event_or_a_value_error(line: str) -> None:
    with pytest.raises(ValueError, match="not a lab event"):
        decode(line)


@pytest.mark.parametrize(
    "fields",
    [
        {"event": "metric", "name": "a"},
        {"event": "metric", "name": "a", "value": "1"},
        {"event": "metric", "name": "a", "value": True},
        {"event": "metric", "name": 1, "value": 1.0},
        {"event": "metric", "name": "a", "value": 1.0, "more": 1},
        {"event": "metric", "name": "a", "value": 10**400},
        {"event": "progress", "done": 1.5, "total": 2},
        {"event": "table", "name": "a", "columns": ["x"], "rows": [[["nested"]]]},
        {"event": "claim", "name": "a", "measured": 1, "expected": 1, "tolerance": 0, "held": "yes"},
        {"event": "ended", "outcome": "splendid", "seconds": 1},
        {"event": "birthday"},
        [],
        None,
    ],
)
def test_wrong_fields_are_refused(fields: object) -> None:
    with pytest.raises(ValueError, match="not a lab event"):
        decode(json.dumps(fields))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_are_finite(number: str) -> None:
    with pytest.raises(ValueError, match="not a lab event"):
        decode(f'{{"event": "metric", "name": "a", "value": {number}}}')
    with pytest.raises(ValueError, match="JSON compliant"):
        encode(MetricMeasured("a", float(number)))


def test_control_characters_cannot_reach_the_terminal() -> None:
    event = decode(json.dumps({"event": "note", "text": "a\x1b[2Jb\nc"}))

    assert event == Noted("a [2Jb c")


@pytest.mark.parametrize(
    ("relation", "measured", "held"),
    [
        (Relation.ABOUT, 1.1, True),
        (Relation.ABOUT, 0.9, True),
        (Relation.ABOUT, 1.2, False),
        (Relation.ABOUT, 0.8, False),
        (Relation.AT_LEAST, 5.0, True),
        (Relation.AT_LEAST, 0.95, True),
        (Relation.AT_LEAST, 0.8, False),
        (Relation.AT_MOST, -5.0, True),
        (Relation.AT_MOST, 1.05, True),
        (Relation.AT_MOST, 1.2, False),
    ],
)
def test_relations(relation: Relation, measured: float, held: bool) -> None:
    assert relation.holds(measured, expected=1.0, tolerance=0.125) is held
