"""What the rules of the linter know besides the card at hand."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol

from llmquiz.core.card import Lang


class LabSpec(Protocol):
    """What a deck may say about a lab; a lab's manifest is one."""

    @property
    def metrics(self) -> Collection[str]:
        """Names of the metrics that it reports."""
        ...

    def check_params(self, raw: Mapping[str, str]) -> list[str]:
        """What is wrong with these parameters, one line each."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """Labs and topics there are, ids of all cards, and the day."""

    labs: Mapping[str, LabSpec] = field(default_factory=dict)
    topics: frozenset[str] = frozenset()
    today: date = date.max
    card_ids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a card; `lang` says in which file, None for the one that carries the attributes."""

    text: str
    lang: Lang | None = None
