"""The rows of the exported tables, read from the store one at a time and in the order of study."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llmquiz.anki import progress
from llmquiz.anki.collection import checksum
from llmquiz.anki.ids import Ids
from llmquiz.anki.note import to_note
from llmquiz.core.card import Lang
from llmquiz.core.day import Calendar
from llmquiz.core.options import Options
from llmquiz.core.schedule import Memory, Schedule, State
from llmquiz.store.codec import decode_card

_FIELD_END = "\x1f"
_LEECH = "leech"

_CHOSEN = """
    FROM card JOIN deck ON deck.id = card.deck
    WHERE card.archived_at IS NULL AND card.deck IN (SELECT value FROM json_each(?))
"""
_ORDER = "deck.position, deck.id, card.position, card.id"
_NOTES = f"""
    SELECT card.id, card.content, card.changed_at,
           EXISTS (SELECT 1 FROM schedule WHERE card = card.id AND leech AND NOT retired)
    {_CHOSEN} ORDER BY {_ORDER}
"""
_CARDS = f"""
    SELECT schedule.id, card.id, card.deck, schedule.ordinal, card.changed_at, schedule.suspended, schedule.flag,
           schedule.state, schedule.due, schedule.interval, schedule.steps_left, schedule.stability,
           schedule.difficulty, schedule.last_review, schedule.reps, schedule.lapses
    {_CHOSEN.replace("WHERE", "JOIN schedule ON schedule.card = card.id AND schedule.retired = 0 WHERE")}
    ORDER BY {_ORDER}, schedule.ordinal
"""
_REVIEWS = """
    SELECT id, schedule, rating, interval, last_interval, difficulty, duration_ms, state FROM live_review ORDER BY id
"""


class Rows:
    """Notes, cards and reviews as `llmquiz.anki.collection.build` wants them: take them in this order.

    Args:
        decks: Anki's id for each deck that is exported.
        options, calendar: what the schedules were made with; without a calendar every card is new.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        decks: Mapping[str, int],
        langs: Sequence[Lang],
        options: Options,
        calendar: Calendar | None,
    ) -> None:
        self.num_notes = self.num_cards = self.num_reviews = 0
        self._connection = connection
        self._decks = decks
        self._langs = langs
        self._options = options
        self._calendar = calendar
        self._ids = Ids()
        self._notes: dict[str, tuple[int, int]] = {}
        self._cards: dict[int, int] = {}

    def notes(self) -> Iterator[tuple[Any, ...]]:
        for card_id, content, changed_at, leech in self._connection.execute(_NOTES, (self._chosen(),)):
            note = to_note(decode_card(content), self._langs)
            note_id = self._ids.of(card_id)
            self.num_notes += 1
            self._notes[card_id] = (note_id, self.num_notes)
            tags = (*note.tags, _LEECH) if leech and self._calendar else note.tags
            first = note.fields[0]
            yield (
                note_id,
                note.guid,
                note.type.id,
                changed_at,
                f" {' '.join(tags)} ",
                _FIELD_END.join(note.fields),
                first,
                checksum(first),
            )

    def cards(self) -> Iterator[tuple[Any, ...]]:
        for schedule_id, card_id, deck, ordinal, changed_at, suspended, flag, *columns in self._connection.execute(
            _CARDS, (self._chosen(),)
        ):
            note_id, position = self._notes[card_id]
            anki_id = self._cards[schedule_id] = self._ids.of(f"{card_id}/{ordinal}")
            self.num_cards += 1
            state = self._state(_schedule(*columns), position, bool(suspended), flag)
            # Anki numbers the cards of a cloze note from 0, the deletions from 1.
            yield (anki_id, note_id, self._decks[deck], max(ordinal - 1, 0), changed_at, *state)

    def reviews(self) -> Iterator[tuple[Any, ...]]:
        if self._calendar is None:
            return
        for review_id, schedule_id, rating, interval, last, difficulty, duration, state in self._connection.execute(
            _REVIEWS
        ):
            anki_id = self._cards.get(schedule_id)
            if anki_id is None:
                continue
            self.num_reviews += 1
            factor, kind = progress.review_factor(difficulty), progress.review_type(State(state))
            yield (review_id, anki_id, rating, interval, last, factor, max(duration, 0), kind)

    def _state(self, schedule: Schedule, position: int, suspended: bool, flag: int) -> progress.CardState:
        if self._calendar is None:
            return progress.new_card(position)
        return progress.card_state(
            schedule, position, suspended=suspended, flag=flag, options=self._options, calendar=self._calendar
        )

    def _chosen(self) -> str:
        return json.dumps(list(self._decks))


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
    return Schedule(State(state), due, interval, steps_left, memory, last_review, reps, lapses)
