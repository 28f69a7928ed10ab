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
        is_filtered: gathers cards of other decks for a while ("dynamic"); their column ``odid`` is their home.
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
