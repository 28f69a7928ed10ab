"""A card: one idea, asked in one or two languages, with what a reader needs to judge their own answer.

A card is content only. When it is due stands in `llmquiz.core.schedule`; a cloze card with several deletions has one
schedule for each (its ordinals), a note from another program one for each face, all others have the single ordinal 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

from llmquiz.core.errors import Place


class Lang(StrEnum):
    """A language that a card is written in."""

    EN = "en"
    ZH = "zh"


class Kind(StrEnum):
    """How a card is asked and graded."""

    OPEN = "open"
    CLOZE = "cloze"
    CHOICE = "choice"
    PREDICT = "predict"
    NOTE = "note"  # brought along from another program; no deck file can ask for it


class Level(StrEnum):
    """How deep an interviewer must dig to reach it."""

    L1 = "L1"
    L2 = "L2"
    L3 = "L3"


class Frequency(StrEnum):
    """How often interviewers ask it."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


@dataclass(frozen=True, slots=True)
class Choice:
    """One option of a choice card. A wrong one says in `why` which mistake leads to it."""

    text: str
    right: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """A number on the card and the expression that yields it, e.g. ``2 * 32 * 8 * 128 * 2`` and ``128 KiB``."""

    expression: str
    value: str


@dataclass(frozen=True, slots=True)
class LabLink:
    """The experiment behind a card. A predict card also names the metric that the learner guesses."""

    lab: str
    params: Mapping[str, str] = field(default_factory=dict)
    metric: str | None = None


@dataclass(frozen=True, slots=True)
class NoteFace:
    """What one part of a note asks and answers, as Markdown: what a template of Anki's makes of the note's fields."""

    ordinal: int
    front: str
    back: str


@dataclass(frozen=True, slots=True)
class CardText:
    """What a card says in one language, as Markdown with TeX formulas.

    Attributes:
        front: the question (for a cloze card: its short title; for a note: the first line of its first face).
        answer: the short answer, first paragraph of the body (for a cloze card: the sentence with its deletions).
        detail: the rest of the body.
        symbols: a line for each symbol of the formulas, with its convention.
        faces: of a note, in the order of their ordinals; all other parts are then empty.
        place: where the heading stands; None for a card that was made in memory.
    """

    front: str
    answer: str
    detail: str = ""
    key_points: tuple[str, ...] = ()
    pitfall: str = ""
    choices: tuple[Choice, ...] = ()
    symbols: tuple[str, ...] = ()
    faces: tuple[NoteFace, ...] = ()
    place: Place | None = None

    def face(self, ordinal: int) -> NoteFace:
        """The part `ordinal` of a note; the first one if it has none of that number."""
        return next((face for face in self.faces if face.ordinal == ordinal), self.faces[0])


CLOZE = re.compile(r"\{\{c(?P<index>\d+)::(?P<text>.+?)(?:::(?P<hint>[^:}]+?))?\}\}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Card:
    """One idea of a deck, in every language it is written in.

    Attributes:
        id: stable, lower-case words joined by hyphens; unique over all decks. Progress belongs to it.
        as_of: for a claim that ages, the day on which it was true.
        texts: at least English for a built-in deck; a user's deck may have either language alone.
    """

    id: str
    deck: str
    topic: str
    kind: Kind
    level: Level
    frequency: Frequency
    texts: Mapping[Lang, CardText]
    tags: tuple[str, ...] = ()
    lab: LabLink | None = None
    follow_ups: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    as_of: date | None = None

    def text(self, lang: Lang) -> CardText:
        """The card in `lang`, or in the language that it has."""
        return self.texts.get(lang) or next(iter(self.texts.values()))

    @property
    def ordinals(self) -> tuple[int, ...]:
        """The parts of the card that are scheduled apart: cloze indices, a note's faces, else ``(0,)``."""
        if self.kind is Kind.NOTE:
            return tuple(face.ordinal for face in next(iter(self.texts.values())).faces)
        if self.kind is not Kind.CLOZE:
            return (0,)
        text = next(iter(self.texts.values())).answer
        return tuple(sorted({int(match["index"]) for match in CLOZE.finditer(text)})) or (1,)


@dataclass(frozen=True, slots=True)
class Deck:
    """A subject: its introduction and its cards, from easy to hard.

    Attributes:
        id: the file name without language and ending.
        builtin: shipped with llmquiz, as opposed to written by the user.
    """

    id: str
    titles: Mapping[Lang, str]
    cards: tuple[Card, ...]
    intros: Mapping[Lang, str] = field(default_factory=dict)
    position: int = 0
    builtin: bool = True
