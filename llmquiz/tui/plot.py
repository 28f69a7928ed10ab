"""Curves in braille dots: two by four to a cell, so that a panel of forty columns shows eighty points of a curve.

Labels are ASCII, since a wide character would break the rows. Axes are linear or logarithmic.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from textual.content import Content

from llmquiz.lab.words import number

Points = Sequence[tuple[float, float]]
STYLES = ("$primary", "$accent", "$success", "$error", "$secondary")
MARKS = ("●", "○", "◆", "◇", "▲")
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of values laid over `dots` dots."""

    low: float
    high: float
    dots: int
    log: bool = False

    @classmethod
    def over(cls, values: Iterable[float], dots: int, *, log: bool) -> Axis:
        """The axis that shows all `values`; logarithmic only if they all allow it."""
        finite = [value for value in values if math.isfinite(value)]
        low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
        log = log and low > 0
        if low == high:
            low, high = (low / 2, high * 2) if log else (low - 0.5, high + 0.5)
        return cls(low, high, dots, log)

    def place(self, value: float) -> int:
        """The dot of `value`, from 0."""
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return round((at - low) / (high - low) * (self.dots - 1))


def draw(
    series: Mapping[str, Points], width: int, height: int, *, x_label: str = "x", log: Sequence[str] = ()
) -> list[Content]:
    """The curves on `height` rows of `width` cells: plot, x axis, and a legend if there are several curves."""
    curves = {
        name: [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)] for name, points in series.items()
    }
    legend = _legend(list(curves), width) if len(curves) > 1 else []
    rows = max(height - 2 - len(legend), 2)
    ys = Axis.over((y for points in curves.values() for _, y in points), rows * 4, log="y" in log)
    labels = [number(ys.high), number(ys.low)]
    gutter = max(len(label) for label in labels) + 2
    columns = max(width - gutter, 4)
    xs = Axis.over((x for points in curves.values() for x, _ in points), columns * 2, log="x" in log)
    canvas = _Canvas(columns, rows)
    for index, points in enumerate(curves.values()):
        dots = [(xs.place(x), ys.place(y)) for x, y in points]
        canvas.curve(dots, index)
        if dots and len(curves) > 1:
            canvas.mark(dots, index)
    lines = []
    for row in range(rows):
        label = labels[0] if row == 0 else labels[1] if row == rows - 1 else ""
        lines.append(Content.styled(f"{label:>{gutter - 2}} │", "$muted") + canvas.row(row))
    return [*lines, *_floor(xs, x_label, gutter, columns), *legend]


def style_of(index: int) -> str:
    """The colour of the curve that was reported as number `index`."""
    return STYLES[index % len(STYLES)]


class _Canvas:
    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.bits = [[0] * columns for _ in range(rows)]
        self.owner = [[0] * columns for _ in range(rows)]
        self.marks: dict[tuple[int, int], str] = {}

    def curve(self, dots: Sequence[tuple[int, int]], index: int) -> None:
        """Join the dots (x, y from the bottom left) by lines."""
        for start, end in zip(dots, dots[1:] or dots, strict=False):
            steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
            for step in range(steps + 1):
                share = step / steps
                self._dot(
                    round(start[0] + share * (end[0] - start[0])), round(start[1] + share * (end[1] - start[1])), index
                )

    def mark(self, dots: Sequence[tuple[int, int]], index: int) -> None:
        """Put the sign of the curve on the last of its points that is free, so that curves differ without colours."""
        cells = [(self.rows - 1 - y // 4, x // 2) for x, y in dots]
        row, column = next((cell for cell in reversed(cells) if cell not in self.marks), cells[-1])
        self.marks[row, column] = MARKS[index % len(MARKS)]
        self.owner[row][column] = index

    def _dot(self, x: int, y: int, index: int) -> None:
        row, column = self.rows - 1 - y // 4, x // 2
        if 0 <= row < self.rows and 0 <= column < self.columns:
            self.bits[row][column] |= _DOTS[3 - y % 4][x % 2]
            self.owner[row][column] = index

    def row(self, row: int) -> Content:
        """One row of cells from the top, each in the colour of the curve that was drawn there last."""
        return Content("").join(
            Content.styled(self._sign(row, column), style_of(self.owner[row][column])) for column in range(self.columns)
        )

    def _sign(self, row: int, column: int) -> str:
        bits = self.bits[row][column]
        return self.marks.get((row, column)) or (chr(0x2800 + bits) if bits else " ")


def _floor(xs: Axis, label: str, gutter: int, columns: int) -> list[Content]:
    low, high = number(xs.low), number(xs.high)
    middle = label[: max(0, columns - len(low) - len(high) - 2)].center(columns - len(low) - len(high))
    rule = " " * (gutter - 1) + "└" + "─" * columns
    return [Content.styled(rule, "$muted"), Content.styled(" " * gutter + low + middle + high, "$muted")]


def _legend(names: Sequence[str], width: int) -> list[Content]:
    entries = [
        Content.assemble((MARKS[i % len(MARKS)] + " ", style_of(i)), (name, "$muted")) for i, name in enumerate(names)
    ]
    lines: list[Content] = []
    for entry in entries:
        if lines and lines[-1].cell_length + entry.cell_length + 3 <= width:
            lines[-1] = lines[-1] + Content("   ") + entry
        else:
            lines.append(entry.truncate(width, ellipsis=True))
    return lines
