"""What tests of the readers ask of an `Incoming`: its cards in short, and that merging it twice changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC
from pathlib import Path

from llmquiz.anki.archive.limits import Limits
from llmquiz.core.card import Card
from llmquiz.core.day import Calendar
from llmquiz.exchange.neutral import harmless
from llmquiz.store import Store
from llmquiz.store.incoming import Incoming, IncomingNote, IntakeReport
from llmquiz.store.intake import merge

CALENDAR = Calendar(4, UTC)
LIMITS = Limits()
NOW = 1_790_000_000.0


def faces(card: Card) -> list[tuple[str, str]]:
    return [(face.front, face.back) for face in next(iter(card.texts.values())).faces]


def notes_of(incoming: Incoming) -> list[IncomingNote]:
    """All notes, after checks of what every reader promises."""
    notes = list(incoming.notes)
    assert len(notes) == incoming.num_notes == len({note.card.id for note in notes})
    decks = {deck.id for deck in incoming.decks}
    for note in notes:
        assert note.card.deck in decks
        assert tuple(part.ordinal for part in note.parts) == note.card.ordinals
        for front, back in faces(note.card):
            assert front.strip()
            assert (harmless(front), harmless(back)) == (front, back)
    assert not any("\n" in finding for finding in incoming.findings)
    return notes


def merged_twice(folder: Path, read: Callable[[], AbstractContextManager[Incoming]]) -> IntakeReport:
    """The first merge's report; the second one finds all of it there."""
    with Store.open(folder / "store.db") as store:
        reports = []
        for _ in range(2):
            with read() as incoming:
                reports.append(merge(store, incoming, calendar=CALENDAR, now=NOW, media_folder=folder / "media"))
    first, second = reports
    assert not first.nothing
    assert second.nothing
    return first
