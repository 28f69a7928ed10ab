"""How a lab reports: progress, points, metrics, tables, claims and notes, checked against its manifest."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Sized
from typing import SupportsFloat, TypeVar

from llmquiz.core.errors import LabError
from llmquiz.lab.events import (
    ClaimTested,
    Event,
    MetricMeasured,
    Noted,
    PointMeasured,
    Progressed,
    Relation,
    TableReported,
    Value,
)

T = TypeVar("T")
MAX_POINTS = 10_000  # of a run
MAX_ROWS = 1_000  # of a table
MAX_NOTES = 100
PROGRESS_SECONDS = 0.05  # no eye follows a bar more often than that


class Report:
    """Where a lab says what it measures.

    Args:
        emit: takes each event as it is made.
        metrics: names that the manifest declares; None takes any (for trying a lab by hand).
        claims: names of the claims that the manifest declares; None takes any.
    """

    def __init__(
        self,
        emit: Callable[[Event], None],
        metrics: Collection[str] | None = None,
        claims: Collection[str] | None = None,
    ) -> None:
        self._emit = emit
        self._metrics = metrics
        self._claims = claims
        self._points: dict[tuple[str, str], list[tuple[float, float]]] = {}
        self._num_points = 0
        self._num_notes = 0
        self._tested: dict[str, bool] = {}

    def progress(self, work: Iterable[T], unit: str = "", label: str = "", total: int | None = None) -> Iterator[T]:
        """Each item of `work`, telling how far it got; `total` where `work` has no length."""
        if total is None:
            total = len(work) if isinstance(work, Sized) else 0
        last = time.monotonic()
        self._emit(Progressed(0, total, unit, label))
        done = 0
        for item in work:
            yield item
            done += 1
            now = time.monotonic()
            if done < total and now - last >= PROGRESS_SECONDS:
                last = now
                self._emit(Progressed(done, total, unit, label))
        self._emit(Progressed(done, max(total, done), unit, label))

    def point(self, metric: str, x: SupportsFloat, y: SupportsFloat, series: str = "") -> None:
        """A point of the curve of `metric`; `series` names the curve where a plot has several."""
        self._known("metric", metric, self._metrics)
        if self._num_points >= MAX_POINTS:
            raise LabError(f"more than {MAX_POINTS} points; report every n-th")
        self._num_points += 1
        point = (_finite(f"x of '{metric}'", x), _finite(f"'{metric}'", y))
        self._points.setdefault((metric, series), []).append(point)
        self._emit(PointMeasured(metric, series, *point))

    def series(self, metric: str, series: str = "") -> list[tuple[float, float]]:
        """The points (x, y) reported so far for a curve."""
        self._known("metric", metric, self._metrics)
        return list(self._points.get((metric, series), []))

    def metric(self, name: str, value: SupportsFloat) -> None:
        """One number, in the unit that the manifest states. Reported again, it replaces the earlier one."""
        self._known("metric", name, self._metrics)
        self._emit(MetricMeasured(name, _finite(f"'{name}'", value)))

    def table(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """A finished table; cells are text, numbers, booleans or None."""
        cells = tuple(tuple(_cell(name, cell) for cell in row) for row in rows)
        if len(cells) > MAX_ROWS or any(len(row) != len(columns) for row in cells):
            raise LabError(f"table '{name}' must have rows of {len(columns)} cells and at most {MAX_ROWS} of them")
        self._emit(TableReported(str(name), tuple(map(str, columns)), cells))

    def claim(
        self,
        name: str,
        *,
        measured: SupportsFloat,
        expected: SupportsFloat,
        tolerance: SupportsFloat = 0.0,
        relation: Relation | str = Relation.ABOUT,
    ) -> bool:
        """Test a claim of the manifest and tell whether it held.

        Args:
            tolerance: absolute, in the unit of `measured`; not negative.
            relation: ``about`` (|measured - expected| <= tolerance), ``at least`` or ``at most``.
        """
        self._known("claim", name, self._claims)
        found, wanted, slack = (_finite(f"claim '{name}'", number) for number in (measured, expected, tolerance))
        if slack < 0:
            raise LabError(f"claim '{name}' has a negative tolerance; say how far off is still right")
        held = Relation(relation).holds(found, wanted, slack)
        self._tested[name] = held and self._tested.get(name, True)
        self._emit(ClaimTested(name, found, wanted, slack, held, Relation(relation)))
        return held

    def note(self, text: str) -> None:
        """A sentence for the reader."""
        self._num_notes += 1
        if self._num_notes <= MAX_NOTES:
            self._emit(Noted(str(text)))

    @property
    def untested(self) -> list[str]:
        """Claims of the manifest that the lab has not tested yet."""
        return [name for name in self._claims or () if name not in self._tested]

    @property
    def broken(self) -> list[str]:
        """Claims that did not hold; one that is tested more than once must hold each time."""
        return [name for name, held in self._tested.items() if not held]

    def _known(self, what: str, name: str, known: Collection[str] | None) -> None:
        if known is not None and name not in known:
            raise LabError(f"lab.toml declares no {what} '{name}'; declared are {', '.join(known) or 'none'}")


def _finite(what: str, value: SupportsFloat) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise LabError(f"{what} is {number}, which is no measurement; look for a division by zero or an overflow")
    return number


def _cell(table: str, cell: object) -> Value:
    if cell is None or isinstance(cell, str | bool | int):
        return cell
    if isinstance(cell, SupportsFloat):
        return _finite(f"a cell of table '{table}'", cell)
    raise LabError(f"table '{table}' has a cell of type {type(cell).__name__}; use text or a number")
