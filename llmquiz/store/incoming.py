"""What another program hands over: decks, notes with schedules and answers, media. Readers make it, `intake` merges it.

Whatever llmquiz has no place for, but the other program will want back, travels along in the `Anki…` records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from llmquiz.core.card import Card, Lang
from llmquiz.core.schedule import Schedule, State
from llmquiz.store.staging import StagedNote


class IncomingReview(NamedTuple):
    """One row of another program's log.

    Attributes:
        id: milliseconds since the epoch.
        rating: 1 to 4; 0 for a card that was rescheduled by hand, which is no answer.
        state: before the answer.
        interval, last_interval: days, or seconds as a negative number.
        stability, difficulty: after the answer, 0 where unknown.
        type, factor: Anki's own columns; None from other programs.
    """

    id: int
    rating: int
    state: State
    interval: int
    last_interval: int
    duration_ms: int
    stability: float = 0.0
    difficulty: float = 0.0
    type: int | None = None
    factor: int | None = None


@dataclass(frozen=True, slots=True)
class AnkiCard:
    """A card's columns that a `Schedule` has no place for.

    Attributes:
        id: Anki's id of the card; `deck`: of its deck.
        factor: ease in thousandths.
        kept: JSON of the rest, see `llmquiz.anki.exporting.progress`.
    """

    id: int
    deck: int
    factor: int
    kept: str = "{}"


@dataclass(frozen=True, slots=True)
class AnkiNote:
    """A note as Anki has it: what its faces were rendered from.

    Attributes:
        modified: Unix seconds at which its content changed.
        fields: HTML, in the order of the note type's fields; parted by U+001F in the store.
    """

    id: int
    guid: str
    notetype: int
    modified: int
    tags: tuple[str, ...]
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IncomingPart:
    """One part of a note that is scheduled by itself. Attributes are those of `llmquiz.store.CardProgress`."""

    ordinal: int
    schedule: Schedule = field(default_factory=Schedule)
    suspended: bool = False
    buried_on: int | None = None
    flag: int = 0
    leech: bool = False
    reviews: Sequence[IncomingReview] = ()
    anki: AnkiCard | None = None


@dataclass(frozen=True, slots=True)
class IncomingNote:
    """A card with its progress.

    Attributes:
        card: kind ``note``, or any kind of ours. If `keeps_text`, only its id counts: the card is one that llmquiz
            exported, its text is that of our deck, and a card that no deck of ours has is left out.
        position: place in its deck.
        parts: one for each of the card's ordinals.
    """

    card: Card
    position: int
    parts: Sequence[IncomingPart]
    anki: AnkiNote | None = None
    keeps_text: bool = False


@dataclass(frozen=True, slots=True)
class IncomingDeck:
    """A deck: `id` starts with the origin and a hyphen, so that no deck file's name collides with it."""

    id: str
    titles: Mapping[Lang, str]
    intros: Mapping[Lang, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IncomingMedia:
    """A picture or a sound; `open` gives its bytes, not more than the limits allow."""

    name: str
    open: Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class Staged:
    """Notes whose schedules and answers are put into databases, with the tables of `llmquiz.store.staging`.

    Attributes:
        notes: read once, and before anything else.
        homes: the database with the table ``home``.
        log: gives the database with the tables ``review`` and ``late``, and waits until it is filled. Asked for more
            than once, also by another thread while notes are read; raises the same each time.
        parts: the same for the table ``part``. Asked for once the notes are read; it may take longer than the log.
    """

    notes: Iterable[StagedNote]
    homes: Path
    log: Callable[[], Path]
    parts: Callable[[], Path]


@dataclass(frozen=True, slots=True)
class Incoming:
    """All that one file brings.

    Attributes:
        origin: ``anki``, ``csv``, ``hashcards`` or ``obsidian``.
        notes: read once; `num_notes` says how many there are, for the progress bar.
        staged: in their place, where there are too many to make an object of each.
        anki_notetypes, anki_presets, anki_decks: JSON of Anki's schema 11 by id; of a deck also our deck's id or None.
        findings: what cannot be carried over and why, a line each; readers may add lines while `notes` is read.
    """

    origin: str
    decks: Sequence[IncomingDeck]
    notes: Iterable[IncomingNote]
    num_notes: int
    staged: Staged | None = None
    media: Sequence[IncomingMedia] = ()
    anki_notetypes: Mapping[int, str] = field(default_factory=dict)
    anki_presets: Mapping[int, str] = field(default_factory=dict)
    anki_decks: Mapping[int, tuple[str | None, str]] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Counts:
    """What the store holds of each."""

    decks: int
    notes: int
    cards: int
    reviews: int
    media: int


@dataclass(frozen=True, slots=True)
class IntakeReport:
    """What a merge did, or in a dry run would do. `cards` are the scheduled parts of notes.

    `cards_renewed` have the schedule that they had, but something else that only the other program wants back.
    """

    before: Counts
    after: Counts
    notes_added: int
    notes_changed: int
    notes_unchanged: int
    schedules_changed: int
    cards_renewed: int
    reviews_added: int
    findings: Sequence[str]

    @property
    def nothing(self) -> bool:
        """Whether all of it was here already."""
        changes = self.notes_changed, self.schedules_changed, self.cards_renewed, self.reviews_added
        return self.before == self.after and not any(changes)
