"""A collection of Anki as records: plain numbers and text, already checked, with nothing of SQLite or protobuf left.

`legacy` is an entry as the JSON columns of schema 11 have it, whichever schema it was read from: the one form that
every version of Anki reads, and that goes back into a package without a loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class TemplateRecord(NamedTuple):
    """One card of a note type; `front` and `back` are HTML with Anki's ``{{Field}}`` notation, not yet safe to show."""

    name: str
    ordinal: int
    front: str
    back: str


@dataclass(frozen=True, slots=True)
class NoteTypeRecord:
    """A note type.

    Attributes:
        is_cloze: one template, and a card for each deletion.
        fields: their names, in order.
        sort_field: index of the field that Anki's browser sorts by.
        legacy: the entry of ``models``.
    """

    id: int
    name: str
    is_cloze: bool
    fields: tuple[str, ...]
    templates: tuple[TemplateRecord, ...]
    css: str
    sort_field: int
    legacy: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DeckRecord:
    """A deck.

    Attributes:
        name: the levels joined by ``::``.
        preset: id of its options; 1 for a filtered deck, which has none.
        is_filtered: gathers cards of other decks for a while ("dynamic"); `CardRow.original_deck` is their home.
        legacy: the entry of ``decks``.
    """

    id: int
    name: str
    preset: int
    is_filtered: bool
    legacy: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PresetRecord:
    """Deck options.

    Attributes:
        desired_retention: probability; None from a version of Anki without FSRS.
        parameters: the fitted weights of the newest FSRS that has any (21, 19 or 17 of them), else empty.
        legacy: the entry of ``dconf``.
    """

    id: int
    name: str
    desired_retention: float | None
    parameters: tuple[float, ...]
    legacy: Mapping[str, Any]


class NoteRecord(NamedTuple):
    """A row of ``notes``; `modified` in Unix seconds, `fields` HTML as they are in the file."""

    id: int
    guid: str
    notetype: int
    modified: int
    tags: tuple[str, ...]
    fields: tuple[str, ...]


class CardRow(NamedTuple):
    """A row of ``cards`` in Anki's own units.

    Attributes:
        due: position (new), days since the collection's day 0 (review), or Unix seconds (learning).
        interval: days, or seconds as a negative number.
        factor: ease in thousandths; 0 for a new card.
        left: steps to graduation, plus a thousand times those left today.
        original_due, original_deck: 0 unless the card is in a filtered deck.
        data: JSON, or empty; not checked.
    """

    id: int
    note: int
    deck: int
    ordinal: int
    modified: int
    type: int
    queue: int
    due: int
    interval: int
    factor: int
    reps: int
    lapses: int
    left: int
    original_due: int
    original_deck: int
    flags: int
    data: str


class ReviewRow(NamedTuple):
    """A row of ``revlog``: `id` in Unix milliseconds, intervals in days or in seconds as a negative number."""

    id: int
    card: int
    ease: int
    interval: int
    last_interval: int
    factor: int
    duration_ms: int
    type: int
