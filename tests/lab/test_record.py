"""A run goes to the store with everything that it measured, and comes back the same."""

from __future__ import annotations

from collections.abc import Callable

from llmquiz.lab.catalog import Lab
from llmquiz.lab.events import MetricMeasured, Outcome, RunStarted
from llmquiz.lab.record import to_record
from llmquiz.lab.state import RunState
from llmquiz.store import Store

Run = Callable[..., RunState]
FindLab = Callable[[str], Lab]


def test_a_record_survives_the_store(run: Run, lab: FindLab) -> None:
    state = run("quick", count="3")
    record = to_record(lab("quick"), {"count": "3"}, state, started_at=1000.0)

    with Store.open() as store:
        number = store.add_run(record)
        (kept,) = store.runs("quick")

    assert kept.id == number
    assert kept.params == {"count": 3, "shape": "full", "scale": 1.0, "fast": False, "model": ""}
    assert kept.metrics == {"total": 14}
    assert kept.series == [{"metric": "square", "series": "ours", "points": [[1, 1], [2, 4], [3, 9]]}]
    assert kept.claims[0]["name"] == "quadratic"
    assert kept.claims[0]["relation"] == "about"
    assert kept.tables[0]["columns"] == ["number", "square"]
    assert kept.device.startswith("cpu")
    assert kept.versions["python"]
    assert (kept.outcome, kept.error, kept.started_at) == ("ok", None, 1000.0)


def test_a_run_that_failed_keeps_what_it_had(run: Run, lab: FindLab) -> None:
    record = to_record(lab("crashing"), {}, run("crashing"), started_at=0.0)

    assert record.metrics == {"got_there": 1.0}
    assert record.outcome == "failed"
    assert "ZeroDivisionError" in str(record.error)


def test_a_run_that_was_left_counts_as_cancelled(lab: FindLab) -> None:
    state = RunState.of([RunStarted("cuda", {}, "GPU 9000"), MetricMeasured("total", 2.0)])

    record = to_record(lab("quick"), {}, state, started_at=0.0, card="a-card")

    assert record.outcome == Outcome.CANCELLED.value
    assert record.device == "cuda: GPU 9000"
    assert record.card == "a-card"
