"""A parameter of a lab: its type, its bounds, and how its text is read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from llmquiz.core.card import Lang

ParamValue: TypeAlias = int | float | bool | str

MAX_TEXT = 2000
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of a lab. `range` holds the bounds of a number, `choices` the words of a choice."""

    name: str
    type: str
    default: ParamValue
    help: Mapping[Lang, str] = field(default_factory=dict)
    range: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()

    @property
    def option(self) -> str:
        """Its option on the command line, e.g. ``--new-tokens``."""
        return "--" + self.name.replace("_", "-")

    @property
    def expected(self) -> str:
        """What it takes, in words: ``a whole number from 16 to 8192``."""
        if self.type == "choice":
            return f"one of {', '.join(self.choices)}"
        words = {"int": "a whole number", "float": "a number", "bool": "true or false", "text": "text"}[self.type]
        return f"{words} from {self.range[0]:g} to {self.range[1]:g}" if self.range else words

    def parse(self, raw: object) -> ParamValue:
        """The typed value of `raw`, which is text from a command line or a card, or a value of the right type.

        Raises:
            ValueError: if it is neither; the message says what was expected.
        """
        value = self._typed(raw)
        in_range = self.range is None or (isinstance(value, int | float) and self.range[0] <= value <= self.range[1])
        if value is None or not in_range or (self.choices and value not in self.choices):
            raise ValueError(f"'{self.name}' must be {self.expected}, not {str(raw)[:40]!r}")
        return value

    def _typed(self, raw: object) -> ParamValue | None:
        if self.type == "bool":
            return raw if isinstance(raw, bool) else _bool(str(raw))
        if isinstance(raw, bool):
            return None
        if self.type == "int":
            return raw if isinstance(raw, int) else _int(raw)
        if self.type == "float":
            return _float(raw)
        return raw if isinstance(raw, str) and raw.isprintable() and len(raw) <= MAX_TEXT else None


def _bool(raw: str) -> bool | None:
    return True if raw.lower() in _TRUE else False if raw.lower() in _FALSE else None


def _int(raw: object) -> int | None:
    text = str(raw)
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else None


def _float(raw: object) -> float | None:
    try:
        value = float(str(raw))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
