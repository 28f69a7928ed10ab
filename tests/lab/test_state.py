"""Events fold into the state of a run."""

from __future__ import annotations

from llmquiz.lab.events import (
    ClaimTested,
    MetricMeasured,
    Noted,
    Outcome,
    PointMeasured,
    Progressed,
    RunEnded,
    RunStarted,
    TableReported,
)
from llmquiz.lab.state import RunState


def test_a_state_holds_what_the_events_said() -> None:
    claim = ClaimTested("flat", 0.1, 0.0, 0.2, True)
    table = TableReported("t", ("a",), ((1,),))
    state = RunState.of(
        [
            RunStarted("cpu", {"python": "3"}),
            Progressed(1, 4),
            PointMeasured("latency", "ours", 1, 2),
            PointMeasured("latency", "ours", 2, 3),
            PointMeasured("latency", "theirs", 1, 9),
            MetricMeasured("speed", 1.0),
            MetricMeasured("speed", 2.0),
            table,
            claim,
            Noted("slow today"),
        ]
    )

    assert state.running
    assert state.fraction == 0.25
    assert state.series == {"latency": {"ours": [(1, 2), (2, 3)], "theirs": [(1, 9)]}}
    assert state.plotted == "latency"
    assert state.metrics == {"speed": 2.0}
    assert state.tables == {"t": table}
    assert state.claims == {"flat": claim}
    assert state.notes == ["slow today"]

    state.apply(RunEnded(Outcome.OK, 1.5))
    assert not state.running
    assert state.outcome is Outcome.OK


def test_a_state_of_nothing() -> None:
    state = RunState()

    assert (state.fraction, state.plotted, state.outcome) == (None, None, None)
    assert RunState.of([Progressed(3, 0)]).fraction is None
    assert RunState.of([Progressed(9, 3)]).fraction == 1.0


def test_a_claim_that_broke_once_stays_broken() -> None:
    broken, held = ClaimTested("flat", 9.0, 0.0, 0.2, False), ClaimTested("flat", 0.1, 0.0, 0.2, True)

    assert RunState.of([held, broken, held]).claims == {"flat": broken}
