"""What a running lab says, one JSON line each, on a pipe of its own.

Labs report through `llmquiz.lab.sdk.Report`; the runner adds `RunStarted` and `RunEnded`. Whatever else a lab prints goes to its log.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import ClassVar, TypeAlias

Value: TypeAlias = str | float | int | bool | None


class Outcome(StrEnum):
    """How a run ended."""

    OK = "ok"  # finished, every claim held
    BROKEN = "broken"  # finished, a claim did not hold
    FAILED = "failed"  # the lab raised, or its process died
    CANCELLED = "cancelled"  # stopped by the user
    TIMEOUT = "timeout"  # ran past its time budget
    MEMORY = "memory"  # ran past its memory budget


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The child is running the lab's code: device and versions are what it found, not what was asked for."""

    kind: ClassVar[str] = "started"
    device: str
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progressed:
    """`done` of `total` units of work; `label` says which part."""

    kind: ClassVar[str] = "progress"
    done: int
    total: int
    unit: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class MetricMeasured:
    """One number of the manifest's metrics, in its unit."""

    kind: ClassVar[str] = "metric"
    name: str
    value: float


@dataclass(frozen=True, slots=True)
class PointMeasured:
    """A point of a curve; `series` tells the curves of one plot apart."""

    kind: ClassVar[str] = "point"
    metric: str
    series: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class TableReported:
    """A finished table: column names and rows."""

    kind: ClassVar[str] = "table"
    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True, slots=True)
class ClaimTested:
    """A claim of the manifest against what was measured: it holds if |measured - expected| <= tolerance."""

    kind: ClassVar[str] = "claim"
    name: str
    measured: float
    expected: float
    tolerance: float
    held: bool


@dataclass(frozen=True, slots=True)
class Noted:
    """A sentence for the reader, e.g. why a part was left out on this machine."""

    kind: ClassVar[str] = "note"
    text: str


@dataclass(frozen=True, slots=True)
class RunEnded:
    """Always the last event. `error` is one line: what happened and what to do next."""

    kind: ClassVar[str] = "ended"
    outcome: Outcome
    seconds: float
    error: str | None = None
    log: str | None = None


Event: TypeAlias = RunStarted | Progressed | MetricMeasured | PointMeasured | TableReported | ClaimTested | Noted | RunEnded

_KINDS: dict[str, type[Event]] = {
    cls.kind: cls
    for cls in (RunStarted, Progressed, MetricMeasured, PointMeasured, TableReported, ClaimTested, Noted, RunEnded)
}


def encode(event: Event) -> str:
    """The event as one line of JSON, without its newline."""
    return json.dumps({"event": event.kind, **asdict(event)}, ensure_ascii=False)


def decode(line: str) -> Event:
    """The event that `line` holds.

    Raises:
        ValueError: if the line is not an event.
    """
    try:
        fields = json.loads(line)
        cls = _KINDS[fields.pop("event")]
        return cls(**{name: _from_json(cls, name, value) for name, value in fields.items()})
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a lab event: {line[:80]!r}") from error


def _from_json(cls: type[Event], name: str, value: object) -> object:
    if cls is TableReported and name == "columns":
        return tuple(value)  # type: ignore[arg-type]
    if cls is TableReported and name == "rows":
        return tuple(tuple(row) for row in value)  # type: ignore[attr-defined]
    if cls is RunEnded and name == "outcome":
        return Outcome(value)  # type: ignore[arg-type]
    return value
