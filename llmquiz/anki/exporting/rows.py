"""The rows of an exported package: what SQL can copy, then one by one what is rendered or scheduled here."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from llmquiz.anki.exporting import copied, progress, simplenote
from llmquiz.anki.exporting.chosen import Chosen
from llmquiz.anki.exporting.collection import CARD, NOTE, checksum
from llmquiz.anki.exporting.evidence import Evidence
from llmquiz.anki.exporting.notetypes import FACES
from llmquiz.anki.exporting.rendering import FIELD_END, Rendered, rendered
from llmquiz.core.card import Kind, Lang
from llmquiz.core.day import Calendar
from llmquiz.core.options import Options
from llmquiz.core.schedule import Memory, Schedule, State
from llmquiz.store.faces import Faces

_LEECH = "leech"
_STATES = tuple(State)
_STEP = 100

_OWN_NOTES = """
    SELECT chosen.position, kind, content, deck, topic, changed_at,
           chosen.position IN (SELECT position FROM part WHERE leech)
    FROM chosen JOIN card ON card.number = chosen.number WHERE note IS NULL ORDER BY chosen.position
"""
_OTHER_CARDS = """
    SELECT part.position, chosen.card, card.deck, topic, part.schedule, ordinal, suspended, flag, buried_on,
           part.card, chosen.id, modified, anki_card.deck, factor, kept,
           state, due, interval, steps_left, stability, difficulty, last_review, reps, lapses
    FROM part JOIN chosen USING (position) JOIN card ON card.number = chosen.number
    JOIN schedule ON schedule.id = part.schedule
    LEFT JOIN anki_note ON anki_note.rowid = chosen.note LEFT JOIN anki_card ON anki_card.schedule = part.schedule
    WHERE part.card IS NULL OR part.card NOT IN (SELECT id FROM package.cards) ORDER BY part.position, ordinal
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an export takes and how.

    Attributes:
        deck_of: Anki's id of the deck for a card of ours, by its deck and topic.
        decks: of Anki that are in the package.
        notetypes: the note types that came from Anki, as entries of ``models``.
        media: names of the pictures and sounds that are kept here.
        options, calendar, today: what the schedules were made with; without a calendar every card is new.
        progress: told how many notes are done.
    """

    deck_of: Callable[[str, str], int]
    decks: Collection[int]
    notetypes: Mapping[int, Mapping[str, Any]]
    media: Collection[str]
    langs: Sequence[Lang]
    options: Options
    calendar: Calendar | None
    today: int
    progress: Callable[[int], None]


class _Noted(NamedTuple):
    """The Anki notes that a card became, and what its cards need to know of them.

    Attributes:
        ids: by the number of the note.
        first: the ordinal here of what Anki numbers 0.
        width: ordinals that one note has room for.
    """

    ids: Mapping[int, int]
    modified: int
    first: int = 0
    width: int = 1_000_000


class _Own(NamedTuple):
    """A card that is rendered here."""

    position: int
    kind: str
    content: str
    deck: str
    topic: str
    changed_at: int
    leech: int


class _Part(NamedTuple):
    """A part that SQL has not copied: whose it is, and what stands beside its schedule.

    Attributes:
        number: what the package calls it; None for one of ours.
        note, modified: of its note, if that came from Anki: what the package calls it, and when it changed.
        home: the deck of Anki's that it came from; `factor`, `kept`: see `llmquiz.store.incoming.AnkiCard`.
    """

    position: int
    card: str
    deck: str
    topic: str
    schedule: int
    ordinal: int
    suspended: int
    flag: int
    buried_on: int | None
    number: int | None
    note: int | None
    modified: int
    home: int | None
    factor: int
    kept: str | None


class Rows:
    """Writes the notes, cards and reviews of the chosen cards into the tables of ``package``."""

    def __init__(self, connection: sqlite3.Connection, chosen: Chosen, wanted: Wanted, evidence: Evidence) -> None:
        self.num_notes = self.num_cards = self.num_reviews = 0
        self.media: set[str] = set()
        self._connection = connection
        self._chosen = chosen
        self._wanted = wanted
        self._evidence = evidence
        self._faces = Faces(connection)
        self._noted: dict[int, _Noted] = {}

    def write(self) -> None:
        """Write all rows."""
        connection, wanted = self._connection, self._wanted
        studied = wanted.calendar is not None
        self.num_notes, self.media = copied.notes(connection, wanted.notetypes, leeches=studied)
        wanted.progress(self.num_notes)
        self.num_notes += connection.executemany(NOTE, self._own_notes()).rowcount
        if studied:
            self.num_cards = copied.cards(connection, wanted.decks, wanted.today)
        self.num_cards += connection.executemany(CARD, self._other_cards()).rowcount
        if studied:
            self.num_reviews = copied.reviews(connection)

    def _own_notes(self) -> Iterator[tuple[Any, ...]]:
        """One row or more for each card that did not come from Anki, in their order."""
        done, count = self.num_notes, self._chosen.total - self.num_notes
        cards = map(_Own._make, self._connection.execute(_OWN_NOTES))
        rows = ((None if card.kind == Kind.NOTE else card.content, card) for card in cards)
        for made, card in rendered(rows, self._wanted.langs, self._evidence.of, count=count):
            tagged = bool(card.leech and self._wanted.calendar)
            if made is None:
                yield from self._simple_notes(card, leech=tagged)
            else:
                yield self._own_note(made, card, leech=tagged)
            done += 1
            if done % _STEP == 0:
                self._wanted.progress(done)

    def _own_note(self, made: Rendered, card: _Own, *, leech: bool) -> tuple[Any, ...]:
        number, modified = self._chosen.notes.of(made.card), max(card.changed_at, made.measured_at)
        self._noted[card.position] = _Noted({0: number}, modified, first=int(card.kind == Kind.CLOZE))
        return _note_row(number, made.guid, made.type, modified, made.tags, made.fields, leech=leech)

    def _simple_notes(self, own: _Own, *, leech: bool) -> Iterator[tuple[Any, ...]]:
        card = self._faces.card(own.content)
        notes = simplenote.to_notes(card, self._wanted.langs, self._wanted.media, self.media)
        ids = {part: self._chosen.notes.of(f"{card.id}/{part}" if part else card.id) for part in notes}
        self._noted[own.position] = _Noted(ids, own.changed_at, width=FACES)
        for part, note in notes.items():
            tags, fields = " ".join(note.tags), FIELD_END.join(note.fields)
            yield _note_row(ids[part], note.guid, note.type.id, own.changed_at, tags, fields, leech=leech)

    def _other_cards(self) -> Iterator[tuple[Any, ...]]:
        """The parts that did not come from Anki, or have changed since."""
        numbered = []
        for row in self._connection.execute(_OTHER_CARDS):
            part = _Part._make(row[: len(_Part._fields)])
            noted = self._noted[part.position] if part.note is None else _Noted({0: part.note}, part.modified)
            number = part.number
            if number is None:
                number = self._chosen.cards.of(f"{part.card}/{part.ordinal}")
                numbered.append((number, part.schedule))
            # Anki numbers the cards of a cloze note from 0, the deletions from 1.
            note, slot = divmod(max(part.ordinal - noted.first, 0), noted.width)
            schedule = _schedule(*row[len(_Part._fields) :])
            state, deck, home_due, home = self._state(part, schedule), self._deck(part), 0, 0
            if (lent := self._lent(part, state, schedule)) is not None:
                state, home_due = state._replace(queue=lent.queue, due=lent.due), lent.home_due
                deck, home = lent.deck, deck
            yield (number, noted.ids[note], deck, slot, noted.modified, *state[:-2], home_due, home, *state[-2:])
        self._connection.executemany("UPDATE part SET card = ? WHERE schedule = ?", numbered)

    def _deck(self, part: _Part) -> int:
        if part.home is not None and part.note is not None and part.home in self._wanted.decks:
            return part.home
        return self._wanted.deck_of(part.deck, part.topic)

    def _lent(self, part: _Part, state: progress.CardState, schedule: Schedule) -> progress.Lent | None:
        """Where a filtered deck that is in the package has the card."""
        if part.kept is None or part.note is None or self._wanted.calendar is None:
            return None
        lent = progress.lent(state, schedule, kept=part.kept)
        return lent if lent and lent.deck in self._wanted.decks and lent.deck != self._deck(part) else None

    def _state(self, part: _Part, schedule: Schedule) -> progress.CardState:
        calendar, options = self._wanted.calendar, self._wanted.options
        if calendar is None:
            return progress.new_card(part.position)
        state = progress.card_state(
            schedule, part.position, suspended=bool(part.suspended), flag=part.flag, options=options, calendar=calendar
        )
        if part.kept is None:
            return state
        buried = part.buried_on is not None and part.buried_on >= self._wanted.today
        return progress.restored(state, schedule, factor=part.factor, kept=part.kept, buried=buried)


def _note_row(
    note_id: int, guid: str, notetype: int, modified: int, tags: str, fields: str, *, leech: bool
) -> tuple[Any, ...]:
    first = fields.partition(FIELD_END)[0]
    return (
        note_id,
        guid,
        notetype,
        modified,
        f" {tags} {_LEECH} " if leech else f" {tags} ",
        fields,
        first,
        checksum(first),
    )


def _schedule(
    state: int,
    due: int,
    interval: int,
    steps_left: int,
    stability: float | None,
    difficulty: float | None,
    last_review: float | None,
    reps: int,
    lapses: int,
) -> Schedule:
    memory = None if stability is None or difficulty is None else Memory(stability, difficulty)
    return Schedule(_STATES[state], due, interval, steps_left, memory, last_review, reps, lapses)
