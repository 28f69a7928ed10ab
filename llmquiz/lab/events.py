"""What a running lab says, one JSON line each, on a pipe of its own.

Labs report through `llmquiz.lab.sdk.Report`; the runner adds `RunEnded`. Whatever else a lab prints goes to its log.
A line comes from code that anyone may have written, so `decode` trusts nothing: types are checked, numbers are finite
and control characters, which could drive the terminal, are replaced.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, ClassVar, TypeAlias

Value: TypeAlias = str | float | int | bool | None


class Outcome(StrEnum):
    """How a run ended."""

    OK = "ok"  # finished, every claim held
    BROKEN = "broken"  # finished, a claim did not hold
    FAILED = "failed"  # the lab raised, or its process died
    CANCELLED = "cancelled"  # stopped by the user
    TIMEOUT = "timeout"  # ran past its time budget
    MEMORY = "memory"  # ran past its memory budget


class Relation(StrEnum):
    """How a claim compares what was measured with what was expected."""

    ABOUT = "about"  # |measured - expected| <= tolerance
    AT_LEAST = "at least"  # measured >= expected - tolerance
    AT_MOST = "at most"  # measured <= expected + tolerance

    def holds(self, measured: float, expected: float, tolerance: float) -> bool:
        """Whether `measured` is where the claim wants it."""
        above, below = measured >= expected - tolerance, measured <= expected + tolerance
        return {"about": above and below, "at least": above, "at most": below}[self.value]


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The child is running the lab's code: device and versions are what it found, not what was asked for.

    `device` is ``cpu``, ``cuda`` or ``mps``; `device_name` is what the hardware calls itself.
    """

    kind: ClassVar[str] = "started"
    device: str
    versions: Mapping[str, str] = field(default_factory=dict)
    device_name: str = ""


@dataclass(frozen=True, slots=True)
class Progressed:
    """`done` of `total` units of work (0: nobody knows); `label` says which part."""

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
    """A claim of the manifest against what was measured; `relation` says on which side of `expected` it holds."""

    kind: ClassVar[str] = "claim"
    name: str
    measured: float
    expected: float
    tolerance: float
    held: bool
    relation: Relation = Relation.ABOUT


@dataclass(frozen=True, slots=True)
class Noted:
    """A sentence for the reader, e.g. why a part was left out on this machine."""

    kind: ClassVar[str] = "note"
    text: str


@dataclass(frozen=True, slots=True)
class RunEnded:
    """Always the last event.

    Attributes:
        error: one line: what happened and what to do next.
        log: the file with all that the lab printed.
        peak_mb: the most memory that was seen in use (2^20 bytes); 0 where nobody looked.
    """

    kind: ClassVar[str] = "ended"
    outcome: Outcome
    seconds: float
    error: str | None = None
    log: str | None = None
    peak_mb: float = 0.0


Event: TypeAlias = (
    RunStarted | Progressed | MetricMeasured | PointMeasured | TableReported | ClaimTested | Noted | RunEnded
)

_KINDS: dict[str, type[Event]] = {
    cls.kind: cls
    for cls in (RunStarted, Progressed, MetricMeasured, PointMeasured, TableReported, ClaimTested, Noted, RunEnded)
}


def encode(event: Event) -> str:
    """The event as one line of JSON, without its newline.

    Raises:
        ValueError: if a number is NaN or infinite.
    """
    return json.dumps({"event": event.kind, **asdict(event)}, ensure_ascii=False, allow_nan=False)


def decode(line: str) -> Event:
    """The event that `line` holds.

    Raises:
        ValueError: if the line is not an event.
    """
    try:
        found = json.loads(line, parse_constant=_no_constant)
        cls = _KINDS[found.pop("event")]
        kinds = {spec.name: str(spec.type) for spec in fields(cls)}
        needed = {spec.name for spec in fields(cls) if spec.default is MISSING and spec.default_factory is MISSING}
        if not needed <= found.keys():
            raise ValueError(f"misses {needed - found.keys()}")
        return cls(**{name: _READERS[kinds[name]](value) for name, value in found.items()})
    except (KeyError, TypeError, AttributeError, RecursionError, OverflowError, ValueError) as error:
        raise ValueError(f"not a lab event: {line[:80]!r}") from error


def clean(text: object) -> str:
    """`text` with control characters replaced, so that it can be shown on a terminal.

    Raises:
        ValueError: if it is not text.
    """
    if not isinstance(text, str):
        raise ValueError(f"not text: {text!r}")
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a measurement")


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"not a finite number: {value!r}")
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"not a whole number: {value!r}")
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"not true or false: {value!r}")
    return value


def _cell(value: Any) -> Value:
    if value is None or isinstance(value, bool | int):
        return value
    return clean(value) if isinstance(value, str) else _number(value)


_READERS: dict[str, Any] = {
    "str": clean,
    "str | None": lambda value: None if value is None else clean(value),
    "float": _number,
    "int": _whole,
    "bool": _truth,
    "Outcome": Outcome,
    "Relation": Relation,
    "Mapping[str, str]": lambda value: {clean(key): clean(text) for key, text in value.items()},
    "tuple[str, ...]": lambda value: tuple(map(clean, value)),
    "tuple[tuple[Value, ...], ...]": lambda value: tuple(tuple(map(_cell, row)) for row in value),
}
