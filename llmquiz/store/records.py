"""What the store hands out and takes in, apart from cards and schedules themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmquiz.core.card import Card, Lang
from llmquiz.core.rating import Rating
from llmquiz.core.schedule import Memory, Schedule, State


@dataclass(frozen=True, slots=True)
class SyncReport:
    """How many cards a sync added, changed in content, archived (gone from their deck) and brought back."""

    added: int = 0
    changed: int = 0
    archived: int = 0
    restored: int = 0

    @property
    def nothing(self) -> bool:
        """Whether the decks were as the store had them."""
        return not (self.added or self.changed or self.archived or self.restored)


@dataclass(frozen=True, slots=True)
class DeckCounts:
    """What a deck has to offer today, under the daily limits; `total` counts its cards."""

    id: str
    titles: Mapping[Lang, str]
    new: int
    learning: int
    due: int
    total: int


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A card that matches a search; suspended if all of its parts are, flag is the highest of its parts."""

    card_id: str
    deck: str
    kind: str
    fronts: Mapping[Lang, str]
    snippet: str
    suspended: bool
    flag: int


@dataclass(frozen=True, slots=True)
class CardProgress:
    """One scheduled part of a card as the store keeps it.

    Attributes:
        buried_on: study day on which it is hidden, None if it never was.
        flag: 0 for none, 1 to 7 for a colour.
        retired: its card is archived, or has lost this part.
    """

    id: int
    card_id: str
    ordinal: int
    schedule: Schedule
    suspended: bool
    buried_on: int | None
    flag: int
    leech: bool
    retired: bool


@dataclass(frozen=True, slots=True)
class StudyItem:
    """A scheduled part of a card with the card itself, as a session shows it."""

    progress: CardProgress
    card: Card


@dataclass(frozen=True, slots=True)
class ReviewRecord:
    """One answer.

    Attributes:
        id: milliseconds since the epoch, unique.
        day: study day.
        state: before the answer.
        interval, last_interval: days, or seconds as a negative number.
        memory: after the answer; None for one given in another program that did not say.
        retrievability: the predicted probability of recall just before, None for a first answer.
    """

    id: int
    schedule: int
    day: int
    rating: Rating
    state: State
    interval: int
    last_interval: int
    memory: Memory | None
    retrievability: float | None
    duration_ms: int


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run of a lab.

    Attributes:
        id: None until the store has given one.
        started_at: Unix seconds.
        outcome: ``ok``, ``broken``, ``failed``, ``cancelled``, ``timeout`` or ``memory``.
        error: one line, None if the run ended well.
    """

    lab: str
    started_at: float
    seconds: float
    outcome: str
    params: Mapping[str, Any] = field(default_factory=dict)
    device: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    claims: Any = field(default_factory=list)
    series: Any = field(default_factory=list)
    tables: Any = field(default_factory=list)
    card: str | None = None
    error: str | None = None
    id: int | None = None


@dataclass(frozen=True, slots=True)
class PredictionRecord:
    """A guess that a learner made before a lab measured the number."""

    card: str
    metric: str
    guess: float
    at: float
    run: int | None = None
    measured: float | None = None
    score: str | None = None
    id: int | None = None
