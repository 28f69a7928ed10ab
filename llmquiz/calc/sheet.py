"""What a calculator hands back: lines of a name, a formula in words, the formula with its numbers, and the value.

The numbers are Python arithmetic, so that a test can work them out again and compare: a line whose formula and value
part ways cannot be shipped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Line:
    """One result.

    Attributes:
        key: its name in JSON, and of its words in `words`.
        value: in base units: bytes, FLOPs, seconds, parameters, one.
        unit: `bytes`, `FLOPs`, `s`, `share`, ... as `units.show` knows them.
        numbers: the formula filled in; empty for a fact that needs none.
    """

    key: str
    value: float
    unit: str
    numbers: str = ""


@dataclass(slots=True)
class Sheet:
    """The results of one calculator for one model.

    Attributes:
        inputs: what was asked, by name.
        problems: (key of `words.PROBLEMS`, its fields): what cannot work as asked.
    """

    calculator: str
    model: str
    inputs: dict[str, Any]
    lines: list[Line] = field(default_factory=list)
    problems: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def add(self, key: str, value: float, unit: str, numbers: str = "") -> float:
        """Append a line; returns its value, for the lines after it."""
        self.lines.append(Line(key, value, unit, numbers))
        return value

    def __getitem__(self, key: str) -> float:
        return next(line.value for line in self.lines if line.key == key)
