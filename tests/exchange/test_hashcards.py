"""Decks of hashcards, with and without its database."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing, suppress
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmquiz.anki.archive.limits import Limits
from llmquiz.core.card import Lang
from llmquiz.core.errors import ImportFileError
from llmquiz.core.rating import Rating
from llmquiz.core.schedule import Memory, State
from llmquiz.exchange.blake3 import hexdigest
from llmquiz.exchange.hashcards import read
from llmquiz.exchange.markdown import guess
from llmquiz.store.incoming import Incoming, IncomingNote

from .arriving import CALENDAR, LIMITS, faces, merged_twice, notes_of

CORPUS = Path(__file__).parent / "corpus"
TABLES = """
CREATE TABLE cards (card_hash TEXT PRIMARY KEY, added_at TEXT NOT NULL, last_reviewed_at TEXT, stability REAL,
  difficulty REAL, interval_raw REAL, interval_days INTEGER, due_date TEXT, review_count INTEGER NOT NULL) STRICT;
CREATE TABLE reviews (review_id INTEGER PRIMARY KEY, session_id INTEGER NOT NULL, card_hash TEXT NOT NULL,
  reviewed_at TEXT NOT NULL, grade TEXT NOT NULL, stability REAL NOT NULL, difficulty REAL NOT NULL,
  interval_raw REAL NOT NULL, interval_days INTEGER NOT NULL, due_date TEXT NOT NULL) STRICT;
"""
DECK = """---
name = "My Deck"
---
Q: What is
$x$?
A: The \\(y\\) of

- a
- b

---

C: The [order] of a group is [the cardinality], see ![fig](img/a%20b.png).
C: 法国的首都是[巴黎]。 Key: [`\\[`]
"""


def folder_of(tmp_path: Path, text: str = DECK) -> Path:
    root = tmp_path / "cards"
    (root / "sub" / "img").mkdir(parents=True, exist_ok=True)
    (root / "sub" / "img" / "a b.png").write_bytes(b"picture")
    (root / "sub" / "Deck.md").write_text(text, encoding="utf-8")
    return root


def taken(root: Path, limits: Limits = LIMITS) -> tuple[Incoming, list[IncomingNote]]:
    with read([root], limits, CALENDAR) as incoming:
        return incoming, notes_of(incoming)


def database(root: Path) -> None:
    """Progress of the question, and of the second deletion of the first cloze text."""
    question = hexdigest(b"BasicWhat is\n$x$?The \\(y\\) of\n\n- a\n- b")
    text = "The order of a group is the cardinality, see ![fig](img/a%20b.png)."
    place = text.index("the cardinality")
    span = place.to_bytes(8, "little") + (place + len("the cardinality") - 1).to_bytes(8, "little")
    cloze = hexdigest(b"Cloze" + text.encode() + span)
    with closing(sqlite3.connect(root / "hashcards.db")) as connection, connection:
        connection.executescript(TABLES)
        for digits in (question, cloze):
            row = (digits, "2025-10-01T10:00:00.000", "2025-10-09T17:09:51.517", 12.5, 5.25, 12.5, 12, "2025-10-21", 3)
            connection.execute("INSERT INTO cards VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            for at, grade, days in (("04", "good", 4), ("08", "forgot", 1), ("09", "easy", 12)):
                values = (digits, f"2025-10-{at}T17:09:51.517", grade, 12.5, 5.25, 12.5, days, "2025-10-21")
                connection.execute("INSERT INTO reviews VALUES (NULL, 1, ?, ?, ?, ?, ?, ?, ?, ?)", values)


def test_blake3_of_the_official_vectors() -> None:
    def data(size: int) -> bytes:
        return bytes(number % 251 for number in range(size))

    assert hexdigest(b"") == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert hexdigest(data(1024)) == "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"
    assert hexdigest(data(1025)) == "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"
    assert hexdigest(data(3072)) == "b98cb0ff3623be03326b373de6b9095218513e64f1ee2edd2525c7ad1e5cffd2"


def test_questions_and_clozes_with_their_deck_and_pictures(tmp_path: Path) -> None:
    incoming, notes = taken(folder_of(tmp_path))
    assert [deck.titles for deck in incoming.decks] == [{Lang.EN: "My Deck"}]
    assert faces(notes[0].card) == [("What is\n$x$?", "The $y$ of\n\n- a\n- b")]
    (picture,) = incoming.media
    assert picture.open().read() == b"picture"
    end = f", see ![fig]({picture.name})."
    assert faces(notes[1].card) == [
        (rf"The \[...\] of a group is the cardinality{end}", f"The **order** of a group is the cardinality{end}"),
        (rf"The order of a group is \[...\]{end}", f"The order of a group is **the cardinality**{end}"),
    ]
    assert faces(notes[2].card)[0] == (r"法国的首都是\[...\]。 Key: `[`", "法国的首都是**巴黎**。 Key: `[`")
    assert [note.position for note in notes] == [0, 1, 2]


def test_what_is_no_card_is_named_by_its_line_and_the_rest_comes_in(tmp_path: Path) -> None:
    text = "# Notes\nmore\n\nQ: lonely\nC: [x]\nA: orphan\nC: nothing\nC: [x]\nQ: a\nA: b\n"
    root = folder_of(tmp_path, text)
    incoming, notes = taken(root)
    assert [faces(note.card)[0][0] for note in notes] == [r"\[...\]", "a"]
    name = root / "sub" / "Deck.md"
    assert [finding.removeprefix(f"{name}:").split(";")[0] for finding in incoming.findings] == [
        "1: text that belongs to no card",
        "4: a question without an answer",
        "6: an answer without a question before it",
        "7: a cloze text that hides nothing",
        f"8: the same question as {name}:5",
    ]


def test_an_edit_makes_a_new_card_as_in_hashcards(tmp_path: Path) -> None:
    def ids(text: str) -> list[str]:
        return [note.card.id for note in taken(folder_of(tmp_path, text))[1]]

    assert ids("Q: a\nA: b\n") == ids("---\nname = 'X'\n---\n\nQ:\na\n\nA: b\n") != ids("Q: a\nA: c\n")


def test_progress_comes_from_its_database(tmp_path: Path) -> None:
    root = folder_of(tmp_path)
    database(root)
    before = (root / "hashcards.db").read_bytes()
    _, notes = taken(root)
    (part,) = notes[0].parts
    assert (part.schedule.state, part.schedule.due) == (State.REVIEW, date(2025, 10, 21).toordinal())
    assert (part.schedule.memory, part.schedule.reps, part.schedule.lapses) == (Memory(12.5, 5.25), 3, 1)
    assert part.schedule.last_review == datetime(2025, 10, 9, 17, 9, 51, 517000, UTC).timestamp()
    assert [review.rating for review in part.reviews] == [Rating.GOOD, Rating.AGAIN, Rating.EASY]
    assert [review.state for review in part.reviews] == [State.NEW, State.REVIEW, State.REVIEW]
    assert [review.last_interval for review in part.reviews] == [0, 4, 1]
    new, known = notes[1].parts
    assert (new.schedule.state, known.schedule.state) == (State.NEW, State.REVIEW)
    ids = [review.id for note in notes for part in note.parts for review in part.reviews]
    assert len(set(ids)) == len(ids) == 6
    assert (root / "hashcards.db").read_bytes() == before
    assert sorted(path.name for path in root.iterdir()) == ["hashcards.db", "sub"]


@pytest.mark.parametrize(
    "data", [b"", b"SQLite format 3\0" + b"\xff" * 500, (CORPUS / "name-not-utf8.db").read_bytes()]
)
def test_a_database_that_cannot_be_read_leaves_the_cards_new(tmp_path: Path, data: bytes) -> None:
    root = folder_of(tmp_path)
    (root / "hashcards.db").write_bytes(data)
    incoming, notes = taken(root)
    assert len(notes) == 3
    assert "hashcards.db: cannot be read" in incoming.findings[0]


def test_merged_twice_it_changes_nothing(tmp_path: Path) -> None:
    root = folder_of(tmp_path)
    database(root)
    report = merged_twice(tmp_path, lambda: read([root], LIMITS, CALENDAR))
    assert (report.after.notes, report.after.cards, report.after.reviews, report.after.media) == (3, 5, 6, 1)
    assert [path.read_bytes() for path in (tmp_path / "media").iterdir() if path.is_file()] == [b"picture"]


def test_nothing_outside_of_the_folder_is_read(tmp_path: Path) -> None:
    root = folder_of(tmp_path, "Q: a\nA: ![](../../secret.png) ![](out.png) ![](/etc/x.png)\n")
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    (outside / "b.md").write_text("Q: outside\nA: b\n", encoding="utf-8")
    (root / ".git").mkdir()
    shutil.copy(outside / "b.md", root / ".git")
    (root / "sub" / "out.png").symlink_to(tmp_path / "secret.png")
    (root / "folder").symlink_to(outside)
    (root / "b.md").symlink_to(outside / "b.md")
    (root / "circle.md").symlink_to(root / "circle.md")
    os.mkfifo(root / "pipe.md")
    incoming, notes = taken(root)
    assert [faces(note.card)[0][0] for note in notes] == ["a"]
    assert not incoming.media
    assert sum("leads out" in finding for finding in incoming.findings) == 3
    assert sum("no such picture" in finding for finding in incoming.findings) == 3


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(files=1), "more than 1 files"),
        (Limits(notes=1), "more than 1 cards"),
        (Limits(field_kb=1), "line of more than 1,024 characters"),
    ],
)
def test_limits(tmp_path: Path, limits: Limits, message: str) -> None:
    root = folder_of(tmp_path, f"Q: a\nA: b\nQ: {'x' * 2000}\nA: b\n")
    with pytest.raises(ImportFileError, match=message):
        taken(root, limits)


def test_one_bad_file_does_not_keep_out_the_others(tmp_path: Path) -> None:
    root = folder_of(tmp_path)
    (root / "bad.md").write_bytes(b"Q: \xff\xfe\x00\nA: b\n")
    incoming, notes = taken(root)
    assert len(notes) == 3
    assert f"{root / 'bad.md'}:1: neither UTF-8" in incoming.findings[0]


def test_no_cards_at_all(tmp_path: Path) -> None:
    with pytest.raises(ImportFileError, match="no card of hashcards"):
        taken(folder_of(tmp_path, "some text\n"))


def test_the_program_is_told_by_what_lies_there(tmp_path: Path) -> None:
    root = folder_of(tmp_path)
    assert guess([root], LIMITS) == "hashcards"
    (root / "sub" / "Deck.md").write_text("#flashcards\n\na::b\n", encoding="utf-8")
    assert guess([root], LIMITS) == "obsidian"
    (root / "hashcards.db").write_bytes(b"")
    assert guess([root], LIMITS) == "hashcards"


def test_very_many_gaps_cost_no_time(tmp_path: Path) -> None:
    root = folder_of(tmp_path, f"Q: a\nA: b\nC: {'[x] ' * 20_000}\nC: {'[' * 50_000}\n")
    start = time.process_time()
    incoming, notes = taken(root)
    assert time.process_time() - start < 2
    assert len(notes) == 1
    assert any("20,000 gaps" in finding for finding in incoming.findings)


MARKS = ["Q: ", "A: ", "C: ", "[", "]", "![", "](", ")", "\\", "\n", "\n---\n", "$", "`", "```\n", "\\(", "\\)"]
TOKENS = st.sampled_from([*MARKS, "a", "中", "name = 1\n", "\x1b[31m", "&#8238;", "x.png"])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(tokens=st.lists(TOKENS, max_size=40))
def test_no_file_is_met_with_another_error(tmp_path_factory: pytest.TempPathFactory, tokens: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.md"
    path.write_text("".join(tokens), encoding="utf-8")
    with suppress(ImportFileError):
        taken(path)
