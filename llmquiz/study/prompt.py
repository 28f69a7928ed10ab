"""What a session shows, and what it says has happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llmquiz.core.card import Card
from llmquiz.core.errors import StoreError
from llmquiz.core.rating import Rating
from llmquiz.core.schedule import Schedule
from llmquiz.core.scheduler import Outcome


class NoCardError(StoreError):
    """There is no current card to act on."""


class StaleCardError(StoreError):
    """The current card was changed elsewhere; nothing was written, `Session.next` gives the card to go on with."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A card to answer.

    Attributes:
        ordinal: the part of the card that is asked, 0 but for cloze cards and notes.
        outcomes: what each rating would do.
        choice_order: for a choice card, the order in which its choices are shown.
    """

    card: Card
    ordinal: int
    schedule_id: int
    schedule: Schedule
    outcomes: Mapping[Rating, Outcome]
    flag: int
    leech: bool
    choice_order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CardRated:
    """An answer was given; `suspended`: one lapse too many, `buried_siblings`: other parts, hidden until tomorrow."""

    card_id: str
    schedule_id: int
    rating: Rating
    outcome: Outcome
    leech: bool
    suspended: bool
    buried_siblings: int


@dataclass(frozen=True, slots=True)
class CardSuspended:
    """The card is out of the queue until it is resumed."""

    card_id: str
    schedule_id: int


@dataclass(frozen=True, slots=True)
class CardBuried:
    """The card is out of the queue until the next study day."""

    card_id: str
    schedule_id: int


@dataclass(frozen=True, slots=True)
class CardFlagged:
    """The card has the flag, 0 for none."""

    card_id: str
    schedule_id: int
    flag: int


@dataclass(frozen=True, slots=True)
class Undone:
    """An action was taken back: ``rate``, ``suspend``, ``unsuspend``, ``bury`` or ``flag``, and the rating it gave."""

    kind: str
    card_id: str
    schedule_id: int
    rating: Rating | None
