"""Notes and cards of Anki's: what SQL copies is what Python would have written, and nothing is lost between the two."""

from __future__ import annotations

import json
import random
import sqlite3
import time
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llmquiz.anki.exporting import copied, notetypes
from llmquiz.anki.exporting.collection import checksum
from llmquiz.anki.exporting.export import export
from llmquiz.anki.exporting.progress import CREATED_ON, CardState
from llmquiz.core.card import Deck, Lang
from llmquiz.core.day import Calendar
from llmquiz.core.schedule import Memory, Schedule, State
from llmquiz.store import Store
from llmquiz.store.codec import encode_note

from .test_progress import kept_before, kept_of

NOW = int(time.time())
TODAY = Calendar().day(NOW)
BASIC = '{"id": 7, "name": "Basic", "sortf": 1, "flds": [], "tmpls": [], "css": ""}'
HOME = '{"id": 9, "name": "Home", "conf": 1}'


@pytest.fixture
def full(store: Store) -> Store:
    """With a deck of Anki's and a note type, but no notes yet."""
    store.sync([Deck("anki-home", {Lang.EN: "Home"}, (), builtin=False)], now=1)
    with store.transaction() as connection:
        connection.execute("UPDATE deck SET origin = 'anki'")
        connection.execute("INSERT INTO anki_notetype VALUES (7, ?)", (BASIC,))
        connection.execute("INSERT INTO anki_deck VALUES (9, 'anki-home', ?)", (HOME,))
    return store


def add_note(
    store: Store, number: int, guid: str, fields: str = "Why?\x1fSo.", tags: str = "", ordinals: int = 1
) -> str:
    """A note that came from Anki, without schedules."""
    card_id = f"anki-{guid}"
    content = encode_note(card_id, "anki-home", "t", "en", range(ordinals), tags.split())
    with store.transaction() as connection:
        connection.execute(
            "INSERT INTO card (id, deck, topic, kind, level, frequency, position, digest, added_at, changed_at,"
            " content) VALUES (?, 'anki-home', 't', 'note', 'L1', 'medium', 1, '', 1, 1, ?)",
            (card_id, content),
        )
        connection.execute("INSERT INTO anki_note VALUES (?, ?, ?, 7, 5, ?, ?)", (card_id, number, guid, tags, fields))
    return card_id


def add_part(store: Store, card: str, ordinal: int, anki: tuple[Any, ...] | None, **columns: Any) -> None:
    """A part of it, with Anki's id, deck, factor and what was kept; `columns` are those of `schedule`."""
    columns = {"card": card, "ordinal": ordinal} | columns
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    row = store.connection.execute(f"INSERT INTO schedule ({names}) VALUES ({marks})", [*columns.values()]).lastrowid
    if anki is not None:
        store.connection.execute("INSERT INTO anki_card VALUES (?, ?, ?, ?, ?)", (row, *anki))


def exported(store: Store, folder: Path, table: str, **wanted: Any) -> list[dict[str, Any]]:
    """The rows of a package's table, by id."""
    report = export(store, [], folder / "out.apkg", with_schedule=True, **wanted)
    with zipfile.ZipFile(report.path) as package, closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(package.read("collection.anki21"))
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY id")]


def some_card(rng: random.Random) -> tuple[CardState, Schedule]:
    """A card of Anki's, and what an import could have made of it."""
    state = State(rng.randrange(4))
    due = rng.choice((rng.randrange(-50, 4000), NOW + rng.randrange(-(10**6), 10**6)))
    data = rng.choice(("", "{}", '{"pos":4}', '{"s":1.5,"cd":"{\\"a\\":1}"}', "not JSON"))
    few = [rng.randrange(60) for _ in range(4)]
    flags = rng.randrange(300)
    came = CardState(state.value, rng.randrange(-3, 5), due, few[0], rng.choice((0, 1300, 2500)), *few[1:], flags, data)
    memory = Memory(rng.uniform(0.1, 9000), rng.uniform(1, 10)) if state and rng.random() < 0.9 else None
    last = rng.choice((None, NOW - rng.random() * 10**6, NOW - rng.randrange(10**6))) if state else None
    at = CREATED_ON + rng.randrange(3000) if state is State.REVIEW else NOW + rng.randrange(10**6)
    return came, Schedule(state, at, came.ivl, rng.randrange(3) if state else 0, memory, last, came.reps, came.lapses)


def add_some_part(store: Store, card: str, ordinal: int, rng: random.Random) -> None:
    """As it came, or answered, moved, flagged, woken or suspended since; sometimes with what no import has written."""
    came, schedule = some_card(rng)
    kept = rng.choices((kept_of, kept_before), weights=(5, 1))[0](came, schedule)
    if rng.random() < 0.05:
        kept = rng.choice(
            ("{}", '{"type":NaN}', '{"was":[]}', '{"type":2,"was":[1,2,3,4,5]}', kept.replace("ivl", "ivy"))
        )
    memory = schedule.memory
    row = {
        "state": schedule.state.value, "due": schedule.due, "interval": schedule.interval,
        "steps_left": schedule.steps_left, "stability": memory and memory.stability,
        "difficulty": memory and memory.difficulty, "last_review": schedule.last_review, "reps": schedule.reps,
        "lapses": schedule.lapses, "suspended": int(came.queue == -1), "flag": came.flags & 7,
        "buried_on": rng.choice((TODAY - 1, TODAY + 1)) if came.queue < -1 else None,
    }  # fmt: skip
    later = {
        "state": rng.randrange(4), "due": row["due"] + 1, "stability": rng.choice((None, 3.0)), "difficulty": 4.0,
        "last_review": NOW - 5.0, "reps": row["reps"] + 1, "suspended": 1 - row["suspended"], "flag": 3,
    }  # fmt: skip
    changed = rng.choice((*later, *[None] * 12))
    row |= {changed: later[changed]} if changed else {}
    if (row["stability"] is None) != (row["difficulty"] is None):
        row |= {"stability": None, "difficulty": None}
    anki = (10**12 + rng.randrange(400), rng.choice((9, 9, 9, 8)), came.factor, kept)
    add_part(store, card, ordinal, anki, **row)


@pytest.mark.parametrize("seed", range(3))
def test_python_writes_the_same_cards_as_sql(
    full: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng, count = random.Random(seed), 300
    card = add_note(full, 10**12, "many", ordinals=count)
    with full.transaction() as connection:
        for ordinal in range(count):
            add_some_part(full, card, ordinal, rng)
        connection.execute(  # SQLite writes numbers with fewer digits
            "UPDATE anki_card SET kept = json_set(kept, '$.was[1]', json_extract(kept, '$.was[1]'),"
            " '$.was[3]', json_extract(kept, '$.was[3]'))"
            " WHERE json_valid(kept) AND json_type(kept, '$.was') = 'array' AND schedule % 2"
        )
    numbers: list[int] = []
    copy = copied.cards
    monkeypatch.setattr(copied, "cards", lambda *args: numbers.append(copy(*args)) or numbers[-1])
    rows = exported(full, tmp_path, "cards")
    monkeypatch.setattr(copied, "cards", lambda *_: 0)
    assert exported(full, tmp_path, "cards") == rows
    assert len(rows) == count
    assert count / 5 < numbers[0] < count * 4 / 5


def test_one_id_from_two_collections_becomes_two(full: Store, tmp_path: Path) -> None:
    for guid in ("a", "b"):
        card = add_note(full, 5000, guid)
        add_part(full, card, 0, (6000, 9, 0, "{}"))
    for guid, number in (("c", 5001), ("d", 4000)):
        add_part(full, add_note(full, number, guid), 0, (number + 1000, 9, 0, "{}"))
    notes = {row["id"]: row["guid"] for row in exported(full, tmp_path, "notes")}
    assert (notes[5000], notes[4000], sorted(notes.values())) == ("a", "d", ["a", "b", "c", "d"])
    cards = {notes[row["nid"]]: row["id"] for row in exported(full, tmp_path, "cards")}
    assert (cards["a"], cards["d"], len(set(cards.values()))) == (6000, 5000, 4)


def test_a_note_whose_type_is_lost_goes_as_one_of_ours(full: Store, tmp_path: Path) -> None:
    add_part(full, add_note(full, 5000, "a", "Why?\x1fBecause."), 0, (6000, 9, 0, "{}"))
    with full.transaction() as connection:
        connection.execute("DELETE FROM anki_notetype")
    (note,), (card,) = exported(full, tmp_path, "notes"), exported(full, tmp_path, "cards")
    assert (note["mid"], note["guid"]) == (notetypes.NOTE.id, "llmquiz:anki-a")
    assert "Because." in note["flds"]
    assert card["nid"] == note["id"]


def test_the_columns_of_a_note(full: Store, tmp_path: Path) -> None:
    """Tags, the field that sorts, and the checksum of the first one without its markup."""
    add_part(full, add_note(full, 1, "plain", "Why?\x1f<b>So</b> &amp; so", "x y"), 0, (1, 9, 0, "{}"))
    picture = '<div> <img src="a.png"></div>\x1f'
    add_part(full, add_note(full, 2, "leech", picture), 0, (2, 9, 0, "{}"), leech=1)
    add_part(full, add_note(full, 3, "was leech", "12", "a Leech"), 0, (3, 9, 0, "{}"), leech=1)
    add_part(full, add_note(full, 4, "no part", "12", "a"), 0, (4, 9, 0, "{}"), leech=1, retired=1)
    rows = [[row[it] for it in ("tags", "flds", "sfld", "csum", "mod")] for row in exported(full, tmp_path, "notes")]
    assert rows == [
        [" x y ", "Why?\x1f<b>So</b> &amp; so", "So & so", checksum("Why?"), 5],
        [" leech ", picture, "", checksum("a.png"), 5],
        [" a Leech ", "12", 12, checksum("12"), 5],
        [" a ", "12", 12, checksum("12"), 5],
    ]
    untagged = export(full, [], tmp_path / "new.apkg").path
    with zipfile.ZipFile(untagged) as package:
        assert b" leech " not in package.read("collection.anki21")


def test_a_card_outside_of_its_deck_and_one_that_anki_never_saw(full: Store, tmp_path: Path) -> None:
    card = add_note(full, 1, "a", ordinals=2)
    kept = kept_of(CardState(0, 0, 12, 0, 0, 0, 0, 0), Schedule())
    add_part(full, card, 0, (1, 8, 0, kept))
    add_part(full, card, 1, None)
    first, second = exported(full, tmp_path, "cards")
    assert [first[it] for it in ("id", "nid", "did", "ord", "due", "queue")] == [1, 1, 1, 0, 12, 0]
    assert [second[it] for it in ("nid", "did", "ord", "due", "queue")] == [1, 1, 1, 1, 0]


def test_a_filtered_deck_has_its_cards_back_that_were_not_studied_here(full: Store, tmp_path: Path) -> None:
    filtered = {"id": 12, "name": "Cram", "dyn": 1, "terms": [["deck:Home", 9, 1]], "resched": True}
    came = CardState(State.REVIEW.value, 2, 2000, 9, 2500, 3, 0, 0, 0, "{}")
    schedule = Schedule(State.REVIEW, CREATED_ON + 2000, 9, 0, Memory(9.5, 5.5), NOW - 86_400.0, 3, 0)
    kept = json.dumps(json.loads(kept_of(came, schedule)) | {"lent": [12, -99_000, 2000, 2]})
    row = {"state": 2, "due": schedule.due, "interval": 9, "stability": 9.5, "difficulty": 5.5, "reps": 3}
    with full.transaction() as connection:
        connection.execute("INSERT INTO anki_deck VALUES (12, NULL, ?)", (json.dumps(filtered),))
    changes: list[dict[str, Any]] = [{}, {"reps": 4, "last_review": float(NOW)}, {"suspended": 1}]
    for number, change in enumerate(changes, 1):
        card = add_note(full, number, f"n{number}")
        add_part(full, card, 0, (number, 9, 2500, kept), **{**row, "last_review": NOW - 86_400.0, **change})
    cards = exported(full, tmp_path, "cards")
    assert [(it["did"], it["odid"], it["odue"]) for it in cards] == [(12, 9, 2000), (9, 0, 0), (9, 0, 0)]
    assert (cards[0]["due"], cards[0]["queue"], cards[2]["queue"]) == (-99_000, 2, -1)
    with zipfile.ZipFile(tmp_path / "out.apkg") as package, closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(package.read("collection.anki21"))
        decks = json.loads(connection.execute("SELECT decks FROM col").fetchone()[0])
    assert decks["12"] == filtered
    for kept_badly in ('"x"', "[12]", '[12, "a", 0, 2]', "[13, 1, 1, 2]", "[9, 1, 1, 2]"):
        with full.transaction() as connection:
            connection.execute("UPDATE anki_card SET kept = json_set(kept, '$.lent', json(?))", (kept_badly,))
        assert {(it["did"], it["odid"]) for it in exported(full, tmp_path, "cards")} == {(9, 0)}
