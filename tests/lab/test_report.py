"""What a lab may report, and what it is told when it may not."""

from __future__ import annotations

import pytest

from llmquiz.core.errors import LabError
from llmquiz.lab.events import ClaimTested, Event, MetricMeasured, Noted, PointMeasured, Progressed, TableReported
from llmquiz.lab.sdk import Params, Report
from llmquiz.lab.sdk.report import MAX_NOTES, MAX_POINTS


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def report(events: list[Event]) -> Report:
    return Report(events.append, metrics=("latency", "speed"), claims=("flat", "fast"))


def test_progress_yields_the_items_and_tells_beginning_and_end(report: Report, events: list[Event]) -> None:
    assert list(report.progress([1, 2, 3], unit="step", label="walking")) == [1, 2, 3]

    assert events[0] == Progressed(0, 3, "step", "walking")
    assert events[-1] == Progressed(3, 3, "step", "walking")


def test_progress_of_quick_steps_is_not_told_each_time(report: Report, events: list[Event]) -> None:
    for _ in report.progress(range(100_000)):
        pass

    assert len(events) < 1_000


def test_progress_without_a_length(report: Report, events: list[Event]) -> None:
    list(report.progress(iter("ab")))

    assert events == [Progressed(0, 0), Progressed(2, 2)]


def test_points_can_be_read_back_by_series(report: Report, events: list[Event]) -> None:
    report.point("latency", x=1, y=2, series="a")
    report.point("latency", x=2, y=3, series="b")

    assert report.series("latency", "a") == [(1.0, 2.0)]
    assert report.series("latency") == []
    assert events[1] == PointMeasured("latency", "b", 2.0, 3.0)


def test_names_must_be_declared(report: Report) -> None:
    with pytest.raises(LabError, match="declares no metric 'sped'; declared are latency, speed"):
        report.metric("sped", 1)
    with pytest.raises(LabError, match="no metric"):
        report.point("sped", 1, 1)
    with pytest.raises(LabError, match="declares no claim 'round'"):
        report.claim("round", measured=1, expected=1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_refused(report: Report, value: float) -> None:
    for offend in (
        lambda: report.metric("speed", value),
        lambda: report.point("speed", value, 1),
        lambda: report.claim("flat", measured=value, expected=0),
        lambda: report.table("t", ["a"], [[value]]),
    ):
        with pytest.raises(LabError, match="no measurement"):
            offend()


def test_claims_are_tested_and_remembered(report: Report, events: list[Event]) -> None:
    assert report.claim("flat", measured=0.1, expected=0.0, tolerance=0.2)
    assert not report.claim("fast", measured=1.0, expected=2.0, relation="at least")

    assert isinstance(events[1], ClaimTested)
    assert (report.broken, report.untested) == (["fast"], [])


def test_a_claim_must_hold_each_time(report: Report) -> None:
    report.claim("flat", measured=1.0, expected=0.0)
    report.claim("flat", measured=0.0, expected=0.0)

    assert report.broken == ["flat"]
    assert report.untested == ["fast"]


def test_a_tolerance_is_not_negative(report: Report) -> None:
    with pytest.raises(LabError, match="negative tolerance"):
        report.claim("flat", measured=1, expected=1, tolerance=-1)


def test_tables_are_rectangles_of_plain_cells(report: Report, events: list[Event]) -> None:
    report.table("t", ["a", "b"], [[1, "x"], [None, 0.5]])
    assert events == [TableReported("t", ("a", "b"), ((1, "x"), (None, 0.5)))]

    with pytest.raises(LabError, match="rows of 2 cells"):
        report.table("t", ["a", "b"], [[1]])
    with pytest.raises(LabError, match="type object"):
        report.table("t", ["a"], [[object()]])


def test_a_run_has_room_for_so_many_points_and_notes(report: Report, events: list[Event]) -> None:
    for x in range(MAX_POINTS):
        report.point("latency", x, 1)
    with pytest.raises(LabError, match="report every n-th"):
        report.point("latency", 0, 1)

    events.clear()
    for _ in range(MAX_NOTES + 5):
        report.note("again")
    assert events == [Noted("again")] * MAX_NOTES


def test_numbers_of_other_libraries_become_floats(report: Report, events: list[Event]) -> None:
    class Scalar:
        def __float__(self) -> float:
            return 2.0

    report.metric("speed", Scalar())

    assert events == [MetricMeasured("speed", 2.0)]


def test_params_are_attributes_that_cannot_change() -> None:
    params = Params({"new_tokens": 256}, device="cuda", seed=3)

    assert (params.new_tokens, params.device, params.seed) == (256, "cuda", 3)
    with pytest.raises(AttributeError, match="no parameter 'tokens'; declared are device, new_tokens, seed"):
        _ = params.tokens
    with pytest.raises(AttributeError, match="cannot be changed"):
        params.new_tokens = 1
