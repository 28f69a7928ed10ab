"""Records of another program, made to fit the store's own rules before a row is written.

A file may say anything: a due day in the year 9999999, a stability that is no number, text that is no Unicode. One such
row must not stop an import of ten thousand. Numbers out of range are brought into it and records without a meaning are
left out; what was done is counted, and told in a line for each kind.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from math import isfinite
from typing import Any

from llmquiz.core.card import Card, Kind
from llmquiz.core.day import Calendar
from llmquiz.core.schedule import Memory, Schedule, State
from llmquiz.store.codec import decode_card, encode_card
from llmquiz.store.incoming import AnkiNote, IncomingNote, IncomingPart

CENTURY = 36_500  # days; the longest interval there is, and the highest stability
MOST = 2**31 - 1
"""The highest number that any count may have: reps, lapses, milliseconds of an answer, ordinals."""

EARLIEST_MS = 2 * 86_400_000
"""No answer was given before, in milliseconds since the epoch."""

UNPLACED_PARTS = "parts that their card lacks or has already, left out"

_LONGEST = 2**63 - 1
_DAY_SECONDS = 86_400
_LAST_DAY = 3_652_059  # 9999-12-31
_SURROGATE = re.compile("[\ud800-\udfff]")


class Findings:
    """Lines for the report: those said once, and those that count."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}
        self._counts: Counter[str] = Counter()

    def say(self, line: str) -> None:
        """Add a line, unless it was said."""
        self._lines[line] = None

    def count(self, what: str, number: int = 1) -> None:
        """More cases of `what`, a plural with what was done about it."""
        if number:
            self._counts[what] += number

    def __iter__(self) -> Iterator[str]:
        yield from self._lines
        yield from (f"{what}: {number}" for what, number in self._counts.items())


def clean(text: str) -> str:
    """`text` with lone surrogates, which UTF-8 cannot hold, replaced."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def is_row_id(number: object) -> bool:
    """Whether it can be an id in the database."""
    return isinstance(number, int) and -_LONGEST <= number <= _LONGEST


class Inspector:
    """Checks records against the present, `now` in Unix seconds."""

    def __init__(self, calendar: Calendar, now: float, findings: Findings) -> None:
        self._calendar = calendar
        self._now = now
        self._today = calendar.day(now)
        self._findings = findings
        self.latest = now + _DAY_SECONDS
        """No answer can have been given later, in Unix seconds, by however much the clocks differ."""
        self.latest_ms = int(self.latest * 1000)

    def note(self, note: IncomingNote) -> IncomingNote | None:
        """The note if something can be asked of it, with its text in Unicode; None if it must be left out."""
        card = note.card
        if not card.id or (not note.keeps_text and not _can_be_asked(card)):
            self._findings.count("notes without an id or a question, left out")
            return None
        if not note.keeps_text and not _is_unicode(card, note.anki):
            self._findings.count("notes with characters that are not Unicode, replaced")
            note = replace(note, card=decode_card(clean(encode_card(card))), anki=note.anki and _cleaned(note.anki))
        if note.anki and not (is_row_id(note.anki.id) and is_row_id(note.anki.notetype) and _whole(note.anki.modified)):
            self._findings.count("notes with ids or times out of range, kept without what Anki would want back")
            note = replace(note, anki=None)
        return note

    def parts(self, note: IncomingNote) -> dict[int, IncomingPart]:
        """The parts that the card can have, by ordinal, each sound."""
        parts: dict[int, IncomingPart] = {}
        ordinals = range(MOST + 1) if note.keeps_text else note.card.ordinals
        for part in note.parts:
            if part.ordinal not in ordinals or part.ordinal in parts:
                self._findings.count(UNPLACED_PARTS)
            else:
                parts[part.ordinal] = self._part(part)
        return parts

    def position(self, position: int, most: int) -> int:
        """A place in a deck, 0 to `most`."""
        if 0 <= position <= most:
            return position
        self._findings.count("places of notes in their decks out of range, brought into it")
        return _brought(position, 0, most)

    def _part(self, part: IncomingPart) -> IncomingPart:
        schedule = part.schedule if self._fits(part.schedule) else self._mended(part)
        flag, buried_on, anki = part.flag, part.buried_on, part.anki
        if not (isinstance(flag, int) and 0 <= flag <= 7):
            self._findings.count("flags other than 0 to 7, taken away")
            flag = 0
        if buried_on is not None and not (_whole(buried_on) and 0 < buried_on <= _LAST_DAY):
            self._findings.count("burials on a day that does not exist, taken away")
            buried_on = None
        if anki and not (is_row_id(anki.id) and is_row_id(anki.deck) and _whole(anki.factor) and _is_text(anki.kept)):
            self._findings.count("cards with numbers out of range, kept without what Anki would want back")
            anki = None
        if schedule is part.schedule and flag is part.flag and buried_on is part.buried_on and anki is part.anki:
            return part
        return replace(part, schedule=schedule, flag=flag, buried_on=buried_on, anki=anki)

    def _fits(self, given: Schedule) -> bool:
        if not (_whole(given.reps) and _whole(given.lapses) and min(given.reps, given.lapses) >= 0):
            return False
        if given.state is State.NEW:
            return given.memory is None and given.last_review is None and not given.interval and not given.steps_left
        if not isinstance(given.state, State) or given.last_review is None:
            return False
        lowest, highest = self._dues(given.state)
        return (
            isinstance(given.due, int)
            and lowest <= given.due <= highest
            and isinstance(given.interval, int)
            and 0 <= given.interval <= CENTURY
            and _whole(given.steps_left)
            and given.steps_left >= 0
            and 0 < given.last_review <= self.latest
            and (given.memory is None or _is_memory(given.memory))
        )

    def _dues(self, state: State) -> tuple[int, int]:
        """The earliest and the latest `due` that a schedule can have: study days of a review, seconds of a step."""
        if state is State.REVIEW:
            return 1, self._today + CENTURY
        return 0, int(self._now) + CENTURY * _DAY_SECONDS

    def _mended(self, part: IncomingPart) -> Schedule:
        self._findings.count("schedules with numbers out of range, brought into it")
        given, state = part.schedule, _state(part.schedule.state)
        reps, lapses = _brought(given.reps, 0, MOST), _brought(given.lapses, 0, MOST)
        if state is State.NEW:
            return Schedule(reps=reps, lapses=lapses)
        due, interval = _brought(given.due, *self._dues(state)), _brought(given.interval, 0, CENTURY)
        return Schedule(
            state=state,
            due=due,
            interval=interval,
            steps_left=_brought(given.steps_left, 0, MOST),
            memory=given.memory if given.memory and _is_memory(given.memory) else None,
            last_review=self._last_review(given.last_review, state, due, interval),
            reps=reps,
            lapses=lapses,
        )

    def _last_review(self, given: object, state: State, due: int, interval: int) -> float:
        """The moment itself or, where none is given that can be, one that the due day speaks for."""
        if isinstance(given, int | float) and isfinite(given) and 0 < given <= self.latest:
            return given
        guess = self._calendar.start(max(due - interval, 719_164)) if state is State.REVIEW else float(due)
        return min(max(guess, 1.0), self._now)


def _can_be_asked(card: Card) -> bool:
    """Whether it has texts, and parts that are the same in all of them."""
    if not card.texts:
        return False
    ordinals = card.ordinals
    if card.kind is Kind.NOTE and len(card.texts) > 1:
        parts = {tuple([face.ordinal for face in text.faces]) for text in card.texts.values()}
        if len(parts) > 1:
            return False
    return (
        bool(ordinals)
        and len(set(ordinals)) == len(ordinals)
        and all(isinstance(number, int) and 0 <= number <= MOST for number in ordinals)
    )


def _is_unicode(card: Card, anki: AnkiNote | None) -> bool:
    texts = [card.id, card.deck, card.topic, *card.tags]
    for text in card.texts.values():
        texts += (text.front, text.answer, text.detail, text.pitfall, *text.key_points, *text.symbols)
        for face in text.faces:
            texts += (face.front, face.back)
        for choice in text.choices:
            texts += (choice.text, choice.why)
    if anki:
        texts += (anki.guid, *anki.tags, *anki.fields)
    return _is_text("".join(texts))


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _cleaned(anki: AnkiNote) -> AnkiNote:
    tags, fields = tuple(map(clean, anki.tags)), tuple(map(clean, anki.fields))
    return replace(anki, guid=clean(anki.guid), tags=tags, fields=fields)


def _whole(number: object) -> bool:
    return isinstance(number, int) and -MOST <= number <= 2 * MOST  # Unix seconds of another century fit as well


def _is_memory(memory: Memory) -> bool:
    return 0 < memory.stability <= CENTURY and 1 <= memory.difficulty <= 10


def _state(given: Any) -> State:
    try:
        return State(given)
    except ValueError:
        return State.NEW


def _brought(number: Any, lowest: int, highest: int) -> int:
    """The whole number nearest to it within the bounds; the lowest for what is no number."""
    try:
        return min(max(int(number), lowest), highest)
    except (TypeError, ValueError, OverflowError):
        return lowest
