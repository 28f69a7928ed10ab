"""Merging a large import into the store, without the reading of any file: notes as objects, and as they are staged.

Processor seconds of a dry run, of the merge, of the same merge again, and of the first search, which makes the index.
"""

from __future__ import annotations

import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from llmquiz.core.card import Card, CardText, Frequency, Kind, Lang, Level, NoteFace
from llmquiz.core.day import Calendar
from llmquiz.core.schedule import Memory, Schedule, State
from llmquiz.store import Store
from llmquiz.store.incoming import (
    AnkiCard,
    AnkiNote,
    Incoming,
    IncomingDeck,
    IncomingNote,
    IncomingPart,
    IncomingReview,
)
from llmquiz.store.intake import merge
from tests.store.incoming import staged

NOTES, REVIEWS_PER_PART = 10_000, 10
_NOW = 1_790_000_000
_DAY = 86_400
_DECKS = 12


def main() -> None:
    """Print seconds and how far memory rose."""
    incoming = large_incoming(NOTES, REVIEWS_PER_PART, now=_NOW)
    notes = list(incoming.notes)
    reviews = sum(len(part.reviews) for note in notes for part in note.parts)
    print(f"{NOTES:,} notes, {reviews:,} reviews")
    for name, source in (("objects", _objects), ("staged", _staged)):
        print(name)
        _measure(lambda folder, source=source: source(incoming, notes, folder))


def _measure(arriving: Callable[[Path], Incoming]) -> None:
    with tempfile.TemporaryDirectory() as name, Store.open(Path(name) / "llmquiz.db") as store:
        folder, before = Path(name), _peak_mb()
        for step in ("dry run", "merge", "again"):
            incoming = arriving(folder)
            started = time.process_time()
            merge(
                store,
                incoming,
                calendar=Calendar(),
                now=_NOW,
                dry_run=step == "dry run",
                media_folder=folder / "media",
            )
            print(f"  {step:13}{time.process_time() - started:6.2f} s")
        started = time.process_time()
        store.search("deck")
        print(f"  {'first search':13}{time.process_time() - started:6.2f} s")
    print(f"  {'memory':13}{_peak_mb() - before:+6.0f} MB")


def _objects(incoming: Incoming, notes: Sequence[IncomingNote], folder: Path) -> Incoming:
    return replace(incoming, notes=iter(notes))


def _staged(incoming: Incoming, notes: Sequence[IncomingNote], folder: Path) -> Incoming:
    return replace(incoming, notes=(), staged=staged(notes, folder / "staged").staged)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def large_incoming(notes: int, reviews_per_part: int, *, now: int, characters: int = 200) -> Incoming:
    """So many notes, every other one reversed; two thirds of the parts were answered so often in the last years."""
    decks = [IncomingDeck(f"anki-deck-{number}", {Lang.EN: f"Deck {number}"}) for number in range(_DECKS)]
    return Incoming("anki", decks, _notes(notes, reviews_per_part, now, characters), notes)


def _notes(count: int, reviews_per_part: int, now: int, characters: int) -> Iterator[IncomingNote]:
    dice = random.Random(1)
    words = ["".join(dice.choices("abcdefghijklmnoprstuvwy", k=dice.randint(2, 9))) for _ in range(4000)]
    taken: set[int] = set()
    for number in range(count):
        front, back = (_text(dice, words, characters) for _ in range(2))
        faces = [NoteFace(0, front, back), NoteFace(1, back, front)][: 1 + number % 2]
        card = Card(
            f"anki-{number * 0x9E3779B97F4A7C15 % 2**64:016x}",
            f"anki-deck-{number % _DECKS}",
            "basic",
            Kind.NOTE,
            Level.L1,
            Frequency.MEDIUM,
            {Lang.EN: CardText(front[:80], "", faces=tuple(faces))},
            tags=("bench", f"tag{number % 7}"),
        )
        parts = [_part(dice, number, face.ordinal, reviews_per_part, now, taken) for face in faces]
        anki = AnkiNote(number + 1, f"guid{number}", 1, now - 9 * _DAY, card.tags, (front, back))
        yield IncomingNote(card, number // _DECKS, parts, anki)


def _text(dice: random.Random, words: list[str], characters: int) -> str:
    return " ".join(dice.choices(words, k=characters // 6))


def _part(dice: random.Random, number: int, ordinal: int, count: int, now: int, taken: set[int]) -> IncomingPart:
    anki = AnkiCard(number * 2 + ordinal + 1, 1, 2500)
    if dice.random() < 1 / 3:
        return IncomingPart(ordinal, anki=anki)
    at, reviews = now - dice.randint(200, 900) * _DAY, list[IncomingReview]()
    for turn in range(count):
        at += dice.randint(1, 20) * _DAY + dice.randint(-30_000, 30_000)
        moment = at * 1000 + dice.randint(0, 999)
        while moment in taken:
            moment += 1
        taken.add(moment)
        state = State.REVIEW if turn else State.NEW
        reviews.append(
            IncomingReview(moment, dice.randint(1, 4), state, 9, 5, dice.randint(900, 30_000), 9.5, 5.5, 1, 2500)
        )
    schedule = Schedule(State.REVIEW, now // _DAY + 719_163 + 3, 9, 0, Memory(9.5, 5.5), float(at), count, 0)
    return IncomingPart(ordinal, schedule, reviews=reviews, anki=anki)
