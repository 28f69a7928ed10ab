"""The rows of the exported tables, read from the store one at a time and in the order of study."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmquiz.anki.exporting import foreign, progress, simplenote
from llmquiz.anki.exporting.collection import checksum
from llmquiz.anki.exporting.evidence import Evidence
from llmquiz.anki.exporting.ids import Ids
from llmquiz.anki.exporting.note import Note, to_note
from llmquiz.anki.exporting.notetypes import FACES
from llmquiz.core.card import Kind, Lang
from llmquiz.core.day import Calendar
from llmquiz.core.options import Options
from llmquiz.core.schedule import Memory, Schedule, State
from llmquiz.store.codec import decode_card

FIELD_END = "\x1f"
_LEECH = "leech"
_STATES = tuple(State)
_STEP = 100

_CHOSEN = "CREATE TEMP TABLE chosen (position INTEGER PRIMARY KEY, number INTEGER NOT NULL, card TEXT NOT NULL)"
_CHOOSE = """
    INSERT INTO chosen (number, card) SELECT card.number, card.id
    FROM card JOIN deck ON deck.id = card.deck
    WHERE card.archived_at IS NULL AND card.deck IN (SELECT value FROM json_each(:decks)) AND (
      :since IS NULL OR card.added_at >= :since OR card.changed_at >= :since OR card.id IN (
        SELECT schedule.card FROM live_review JOIN schedule ON schedule.id = live_review.schedule
        WHERE live_review.id >= :since * 1000
      )
    )
    ORDER BY deck.position, deck.id, card.position, card.id
"""
_NOTES = """
    SELECT card.content, card.deck, card.topic, card.changed_at,
           EXISTS (SELECT 1 FROM schedule WHERE card = card.id AND leech AND NOT retired),
           anki_note.id, guid, notetype, modified, tags, fields
    FROM chosen CROSS JOIN card ON card.number = chosen.number LEFT JOIN anki_note ON anki_note.card = chosen.card
    ORDER BY chosen.position
"""
_CARDS = """
    SELECT chosen.position, chosen.card, schedule.id, schedule.ordinal, suspended, flag, buried_on,
           anki_card.id, anki_card.deck, anki_card.factor, anki_card.kept,
           state, due, interval, steps_left, stability, difficulty, last_review, reps, lapses
    FROM chosen CROSS JOIN schedule ON schedule.card = chosen.card AND schedule.retired = 0
    LEFT JOIN anki_card ON anki_card.schedule = schedule.id
    ORDER BY chosen.position, schedule.ordinal
"""
_FACTOR = "CASE WHEN difficulty > 0 THEN CAST(round(((difficulty - 1) / 9.0 + 0.1) * 1000) AS INTEGER) ELSE 0 END"
_TYPES = " ".join(f"WHEN {state.value} THEN {number}" for state, number in progress.REVLOG_TYPES.items())
_TYPE = f"CASE state {_TYPES} END"
_REVIEWS = f"""
    SELECT live_review.id, exported.card, rating AS ease, interval, last_interval,
           coalesce(anki_factor, {_FACTOR}) AS factor, max(duration_ms, 0) AS duration,
           coalesce(anki_type, {_TYPE}) AS type
    FROM live_review JOIN exported ON exported.schedule = live_review.schedule ORDER BY live_review.id
"""
_RESCHEDULES = """
    SELECT anki_reschedule.id, exported.card, 0 AS ease, interval, last_interval, factor, duration_ms AS duration, type
    FROM anki_reschedule JOIN exported ON exported.schedule = anki_reschedule.schedule
    WHERE anki_reschedule.id NOT IN (SELECT id FROM review) ORDER BY anki_reschedule.id
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


@dataclass(frozen=True, slots=True)
class _Noted:
    """The Anki notes that a card became, and what its cards need to know of them.

    Attributes:
        first: the ordinal here of what Anki numbers 0.
        width: ordinals that one note has room for.
    """

    ids: Mapping[int, int]
    deck: int
    modified: int
    first: int = 0
    width: int = 1_000_000
    foreign: bool = False


def choose(connection: sqlite3.Connection, decks: str, since: float | None) -> int:
    """Note in a temporary table which cards go, in their order; how many they are.

    Args:
        decks: their ids, as JSON.
        since: Unix seconds; only cards that were added, changed or answered from then on.
    """
    connection.execute(_CHOSEN)
    return connection.execute(_CHOOSE, {"decks": decks, "since": since}).rowcount


class Rows:
    """Notes, cards and reviews as `llmquiz.anki.exporting.collection.build` wants them: take them in this order."""

    def __init__(self, connection: sqlite3.Connection, wanted: Wanted, evidence: Evidence) -> None:
        self.num_notes = self.num_cards = 0
        self.media: set[str] = set()
        self._connection = connection
        self._wanted = wanted
        self._evidence = evidence
        self._note_ids, self._card_ids = Ids(), Ids()
        self._noted: list[_Noted] = []

    def notes(self) -> Iterator[tuple[Any, ...]]:
        """One row or more for each chosen card, in their order."""
        for content, deck, topic, changed_at, leech, *anki in self._connection.execute(_NOTES):
            tagged = bool(leech and self._wanted.calendar)
            if anki[0] is not None and anki[2] in self._wanted.notetypes:
                yield self._foreign(*anki, leech=tagged, deck=self._wanted.deck_of(deck, topic))
            else:
                yield from self._own(content, self._wanted.deck_of(deck, topic), changed_at, leech=tagged)
            if len(self._noted) % _STEP == 0:
                self._wanted.progress(len(self._noted))

    def _own(self, content: str, deck: int, changed_at: int, *, leech: bool) -> Iterator[tuple[Any, ...]]:
        card = decode_card(content)
        if card.kind is Kind.NOTE:
            notes = simplenote.to_notes(card, self._wanted.langs, self._wanted.media, self.media)
            ids = {part: self._note_ids.of(f"{card.id}/{part}" if part else card.id) for part in notes}
            self._noted.append(_Noted(ids, deck, changed_at, width=FACES))
        else:
            evidence, measured_at = self._evidence.of(card)
            notes, ids = {0: to_note(card, self._wanted.langs, evidence)}, {0: self._note_ids.of(card.id)}
            changed_at = max(changed_at, measured_at)
            self._noted.append(_Noted(ids, deck, changed_at, first=int(card.kind is Kind.CLOZE)))
        for part, note in notes.items():
            self.num_notes += 1
            yield _note_row(ids[part], note, changed_at, leech=leech)

    def _foreign(
        self, note_id: int, guid: str, notetype: int, modified: int, tags: str, fields: str, *, leech: bool, deck: int
    ) -> tuple[Any, ...]:
        number = self._note_ids.claim(note_id)
        self._noted.append(_Noted({0: number}, deck, modified, foreign=True))
        self.num_notes += 1
        self.media |= foreign.named(fields)
        names = tags.split()
        if leech and _LEECH not in map(str.lower, names):
            names.append(_LEECH)
        parts = fields.split(FIELD_END)
        sort_field = foreign.sort_field(self._wanted.notetypes[notetype], parts)
        row_tags = f" {' '.join(names)} " if names else ""
        return number, guid, notetype, modified, row_tags, fields, sort_field, checksum(foreign.bare(parts[0]))

    def cards(self) -> Iterator[tuple[Any, ...]]:
        """The parts of the chosen cards."""
        self._connection.execute("CREATE TEMP TABLE exported (schedule INTEGER PRIMARY KEY, card INTEGER NOT NULL)")
        exported = []
        for position, card_id, schedule, ordinal, suspended, flag, buried_on, *rest in self._connection.execute(_CARDS):
            noted = self._noted[position - 1]
            anki_id, anki_deck, factor, kept, *columns = rest
            deck = anki_deck if noted.foreign and anki_deck in self._wanted.decks else noted.deck
            own_id = anki_id is None or not noted.foreign
            number = self._card_ids.of(f"{card_id}/{ordinal}") if own_id else self._card_ids.claim(anki_id)
            exported.append((schedule, number))
            state = self._state(position, bool(suspended), flag, buried_on, factor, kept, columns)
            # Anki numbers the cards of a cloze note from 0, the deletions from 1.
            part, slot = divmod(max(ordinal - noted.first, 0), noted.width)
            yield (number, noted.ids[part], deck, slot, noted.modified, *state)
        self.num_cards = len(exported)
        self._connection.executemany("INSERT INTO exported VALUES (?, ?)", exported)

    def _state(
        self,
        position: int,
        suspended: bool,
        flag: int,
        buried_on: int | None,
        factor: int,
        kept: str | None,
        columns: Sequence[Any],
    ) -> progress.CardState:
        calendar, options = self._wanted.calendar, self._wanted.options
        if calendar is None:
            return progress.new_card(position)
        schedule = _schedule(*columns)
        state = progress.card_state(
            schedule, position, suspended=suspended, flag=flag, options=options, calendar=calendar
        )
        if kept is None:
            return state
        buried = buried_on is not None and buried_on >= self._wanted.today
        return progress.restored(state, schedule, factor=factor, kept=kept, buried=buried)

    def reviews(self) -> Iterable[str]:
        """Queries for every answer that was not taken back, and for what Anki logged besides."""
        return () if self._wanted.calendar is None else (_REVIEWS, _RESCHEDULES)


def _note_row(note_id: int, note: Note, modified: int, *, leech: bool) -> tuple[Any, ...]:
    tags = (*note.tags, _LEECH) if leech else note.tags
    first, fields = note.fields[0], FIELD_END.join(note.fields)
    return note_id, note.guid, note.type.id, modified, f" {' '.join(tags)} ", fields, first, checksum(first)


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
