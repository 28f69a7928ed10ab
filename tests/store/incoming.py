"""Small imports, as a reader would hand them over."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

from llmquiz.core.card import Card, CardText, Frequency, Kind, Lang, Level, NoteFace
from llmquiz.core.schedule import Memory, Schedule, State
from llmquiz.store import Store
from llmquiz.store.incoming import (
    AnkiCard,
    AnkiNote,
    Incoming,
    IncomingDeck,
    IncomingMedia,
    IncomingNote,
    IncomingPart,
    IncomingReview,
    IntakeReport,
)
from llmquiz.store.intake import merge
from tests.support.making import CALENDAR, DAY, NOON

TODAY = CALENDAR.day(NOON)


def note_card(name: str, *sides: tuple[str, str], deck: str = "anki-d") -> Card:
    """A note with a face for each pair of front and back."""
    faces = tuple(NoteFace(ordinal, front, back) for ordinal, (front, back) in enumerate(sides))
    text = CardText(sides[0][0] if sides else "", "", faces=faces)
    return Card(f"anki-{name}", deck, "basic", Kind.NOTE, Level.L1, Frequency.MEDIUM, {Lang.EN: text}, ("tag",))


def reviewed(days_ago: float, *, due_in: int = 3, reps: int = 2) -> Schedule:
    """A card in review that was last answered so long ago."""
    memory = Memory(9.5, 5.5)
    return Schedule(State.REVIEW, TODAY + due_in, 9, 0, memory, float(NOON - days_ago * DAY), reps, 0)


def answer(days_ago: float, rating: int = 3, *, at_ms: int = 0) -> IncomingReview:
    """An answer given so long ago, plus some milliseconds."""
    moment = int((NOON - days_ago * DAY) * 1000) + at_ms
    return IncomingReview(moment, rating, State.REVIEW, 9, 4, 1500, 9.5, 5.5, 1, 2500)


def make_note(
    name: str, *parts: IncomingPart, sides: int = 2, modified: int = 100, text: str = "", deck: str = "anki-d"
) -> IncomingNote:
    """A note as Anki has it; its sides show `text`, or its name."""
    text = text or name
    card = note_card(name, *((f"front {side} of {text}", f"back {side} of {text}") for side in range(sides)), deck=deck)
    anki = AnkiNote(sum(map(ord, name)), name, 1, modified, ("tag",), (f'<img src="a.png">{text}', "back"))
    return IncomingNote(card, 0, parts, anki)


def make_incoming(*notes: IncomingNote, media: Sequence[tuple[str, bytes]] = (), deck: str = "anki-d") -> Incoming:
    """One file's worth."""
    return Incoming(
        "anki",
        [IncomingDeck(deck, {Lang.EN: "A › D"})],
        iter(notes),
        len(notes),
        media=[IncomingMedia(name, lambda content=content: BytesIO(content)) for name, content in media],
        anki_notetypes={1: '{"name":"Basic"}'},
        anki_presets={1: '{"name":"Default"}'},
        anki_decks={1: (deck, '{"name":"D"}')},
    )


def collection() -> Incoming:
    """A reversed note of which one side was answered, and a new note."""
    studied = IncomingPart(0, reviewed(5), flag=2, reviews=[answer(20), answer(5, 4)], anki=AnkiCard(11, 1, 2300))
    fresh = IncomingPart(1, suspended=True, anki=AnkiCard(12, 1, 0, '{"pos":7}'))
    return make_incoming(make_note("a", studied, fresh), make_note("b", IncomingPart(0), sides=1))


def take(store: Store, incoming: Incoming, **how: object) -> IntakeReport:
    """Merge at noon."""
    folder = store.path.parent / "media"
    return merge(store, incoming, calendar=CALENDAR, now=NOON, media_folder=folder, **how)  # type: ignore[arg-type]


def dump(store: Store) -> dict[str, list[str]]:
    """All rows of all tables."""
    names = [row[0] for row in store.connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    return {name: sorted(map(repr, store.connection.execute(f'SELECT * FROM "{name}"'))) for name in names}
