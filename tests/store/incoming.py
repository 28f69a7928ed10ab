"""Small imports, as a reader would hand them over."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from io import BytesIO
from operator import attrgetter
from pathlib import Path

from llmquiz.core.card import Card, CardText, Frequency, Kind, Lang, Level, NoteFace
from llmquiz.core.schedule import Memory, Schedule, State
from llmquiz.store import Store
from llmquiz.store.codec import encode_card
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
    Staged,
)
from llmquiz.store.intake import merge
from llmquiz.store.intakeearly import LOG_IS_STAGED
from llmquiz.store.staging import StagedNote, create_homes, create_parts, create_reviews
from tests.support.making import CALENDAR, DAY, NOON

TODAY = CALENDAR.day(NOON)
_ADD_HOME = "INSERT INTO home VALUES (?, ?, ?, ?, ?, NULL)"
_ADD_PART = f"INSERT INTO part VALUES ({', '.join('?' * 22)})"


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
    how = {"calendar": CALENDAR, "now": NOON} | how
    report = merge(store, incoming, media_folder=folder, **how)  # type: ignore[arg-type]
    assert store.connection.execute("PRAGMA foreign_key_check").fetchall() == []
    return report


def staged(notes: Sequence[IncomingNote], folder: Path) -> Incoming:
    """The same notes as a reader of large files would stage them, by hand; they must be sound, with all their parts.

    The log is staged before a note is read: in a first import, answers come first.
    """
    folder.mkdir(exist_ok=True)
    homes, parts, log = folder / "homes.db", folder / "parts.db", folder / "log.db"
    for path in (homes, parts, log):
        path.unlink(missing_ok=True)
    arriving: list[StagedNote] = []
    with ExitStack() as stack:
        known, schedules, answers = (stack.enter_context(_filling(path)) for path in (homes, parts, log))
        for connection, create in ((known, create_homes), (schedules, create_parts), (answers, create_reviews)):
            create(connection)
        rank = 0
        for number, note in enumerate(notes):
            arriving.append(staged_note(7 * number - 9, note))
            for part in sorted(note.parts, key=attrgetter("ordinal")):
                rank += 1
                schedules.execute(_ADD_PART, (rank * 10, rank, 7 * number - 9, *part_columns(part)))
                own = part.anki is None
                known.execute(_ADD_HOME, (rank, rank * 10, own, 7 * number - 9, part.ordinal))
                stage_answers(answers, rank * 10, part)
    given = Staged(after_the_log(arriving), homes, lambda: log, lambda: parts)
    return replace(make_incoming(), notes=(), num_notes=len(arriving), staged=given)


@contextmanager
def _filling(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        yield connection


def after_the_log(notes: Iterable[StagedNote]) -> Iterator[StagedNote]:
    """The notes; the first is given once the merge knows that the log is staged."""
    for thread in threading.enumerate():
        if thread.name == LOG_IS_STAGED:
            thread.join()
    yield from notes


def staged_note(number: int, note: IncomingNote) -> StagedNote:
    """What is written of the note itself."""
    card, anki = note.card, note.anki
    facts = (card.id, card.deck, card.topic, card.kind.value, card.level.value, card.frequency.value)
    kept = anki and (anki.id, anki.guid, anki.notetype, anki.modified, " ".join(anki.tags), "\x1f".join(anki.fields))
    return StagedNote(number, *facts, note.position, encode_card(card), card.ordinals, note.keeps_text, kept)


def part_columns(part: IncomingPart) -> tuple[object, ...]:
    """A row of the table ``part``, from `ordinal` on."""
    it = part.schedule
    memory = (it.memory.stability, it.memory.difficulty) if it.memory else (None, None)
    schedule = (int(it.state), it.due, it.interval, it.steps_left, *memory, it.last_review, it.reps, it.lapses)
    anki = (part.anki.id, part.anki.deck, part.anki.factor, part.anki.kept) if part.anki else (None,) * 4
    return (part.ordinal, *schedule, part.suspended, part.buried_on, part.flag, part.leech, *anki, None)


def stage_answers(connection: sqlite3.Connection, number: int, part: IncomingPart) -> None:
    """The first to claim a millisecond gets it."""
    last = None
    for it in sorted(part.reviews):
        taken = connection.execute("SELECT 1 FROM review WHERE id = ?", (it.id,)).fetchone()
        answer = (it.rating, int(it.state), it.interval, it.last_interval, it.stability, it.difficulty, it.duration_ms)
        row = (it.id, number, *answer, it.type, it.factor, None if last is None else it.id - last)
        connection.execute(f"INSERT INTO {'late' if taken else 'review'} VALUES ({', '.join('?' * 12)})", row)
        last = it.id if it.rating else last


def dump(store: Store) -> dict[str, list[str]]:
    """All rows of all tables."""
    names = [row[0] for row in store.connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    return {name: sorted(map(repr, store.connection.execute(f'SELECT * FROM "{name}"'))) for name in names}
