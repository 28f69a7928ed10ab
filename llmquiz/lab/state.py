"""What is known of a run so far: events folded into progress, metrics, curves, tables and claims. It draws nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from llmquiz.lab.events import (
    ClaimTested,
    Event,
    MetricMeasured,
    Noted,
    Outcome,
    PointMeasured,
    Progressed,
    RunEnded,
    RunStarted,
    TableReported,
)

Points = list[tuple[float, float]]


@dataclass(slots=True)
class RunState:
    """A run as its events tell it; every view of a run draws one of these.

    Attributes:
        series: metric -> series name -> points (x, y) in the order in which they came.
        metrics: the last value of each metric.
        claims: of each claim the last test, or the first that did not hold.
        ended: how it ended; None while it runs.
    """

    started: RunStarted | None = None
    progress: Progressed | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    series: dict[str, dict[str, Points]] = field(default_factory=dict)
    tables: dict[str, TableReported] = field(default_factory=dict)
    claims: dict[str, ClaimTested] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    ended: RunEnded | None = None

    @classmethod
    def of(cls, events: Iterable[Event]) -> RunState:
        """The state after `events`."""
        state = cls()
        for event in events:
            state.apply(event)
        return state

    def apply(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case RunStarted():
                self.started = event
            case Progressed():
                self.progress = event
            case MetricMeasured(name, value):
                self.metrics[name] = value
            case PointMeasured(metric, series, x, y):
                self.series.setdefault(metric, {}).setdefault(series, []).append((x, y))
            case TableReported(name):
                self.tables[name] = event
            case ClaimTested(name):
                if name not in self.claims or self.claims[name].held:
                    self.claims[name] = event
            case Noted(text):
                self.notes.append(text)
            case RunEnded():
                self.ended = event

    @property
    def running(self) -> bool:
        """Whether more events may come."""
        return self.ended is None

    @property
    def outcome(self) -> Outcome | None:
        """How the run ended; None while it runs."""
        return self.ended.outcome if self.ended else None

    @property
    def fraction(self) -> float | None:
        """How much of the present part is done, 0 to 1; None where nobody knows."""
        if self.progress is None or self.progress.total <= 0:
            return None
        return min(1.0, max(0.0, self.progress.done / self.progress.total))

    @property
    def plotted(self) -> str | None:
        """The metric with a curve that was reported first; None without curves."""
        return next(iter(self.series), None)
