"""Every earlier version of the schema becomes the present one and keeps its data; a backup is made first."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlite_utils import Database

from llmquiz.core.card import Lang
from llmquiz.core.errors import StoreError
from llmquiz.store import Store, backup, migrations
from llmquiz.store.codec import encode_card, encode_note, fingerprint
from llmquiz.store.migrations import LATEST
from llmquiz.store.search import index_all
from tests.store.notes import REVERSED, add_note, add_notetype
from tests.support.making import make_card

FOREIGN = (
    "UPDATE deck SET origin = 'anki'",
    "UPDATE review SET anki_type = 1, anki_factor = 2300",
    "INSERT INTO anki_reschedule VALUES (8, 1, 9, 4, 0, 0, 4)",
    "INSERT INTO anki_notetype VALUES (1, '{}')",
    "INSERT INTO anki_preset VALUES (1, '{}')",
    "INSERT INTO anki_deck VALUES (1, 'deck', '{}')",
    "INSERT INTO anki_note VALUES ('a', 1, 'guid', 1, 100, 'tag', 'front' || char(31) || 'back')",
    "INSERT INTO anki_card VALUES (1, 1, 1, 2300, '{}')",
    "INSERT INTO media VALUES ('a.png', 'da39a3ee5e6b4b0d3255bfef95601890afd80709', 0)",
)
FOREIGN_TABLES = (*(statement.split()[2] for statement in FOREIGN[2:]),)


def make_old(path: Path, version: int) -> None:
    """A database of `version` with a card, and a row in each of the tables that this version has beside."""
    path.parent.mkdir(parents=True)
    connection = sqlite3.connect(path, isolation_level=None)
    migrations.apply(Database(connection), version)
    card = make_card("a", answer="memory for speed")
    connection.execute("INSERT INTO deck (id, title_en, position, builtin) VALUES ('deck', 'Deck', 0, 1)")
    connection.execute(
        """INSERT INTO card (id, deck, topic, kind, level, frequency, position, digest, added_at, changed_at, content)
        VALUES ('a', 'deck', 't', 'open', 'L1', 'high', 0, 'd', 1, 1, ?)""",
        (encode_card(card),),
    )
    connection.execute("INSERT INTO schedule (card, ordinal, state, due, reps) VALUES ('a', 0, 2, 9, 3)")
    if version >= 2:
        columns = "id, schedule, day, rating, state, interval, last_interval, stability, difficulty, duration_ms"
        connection.execute(f"INSERT INTO review ({columns}) VALUES (7, 1, 5, 3, 0, 1, 0, 2.5, 5.0, 900)")
    if version >= 3:
        connection.execute(
            """INSERT INTO run (lab, params, device, versions, started_at, seconds, outcome, metrics, claims, series,
            tables) VALUES ('kv', '{}', 'cpu', '{}', 1, 2, 'ok', '{}', '[]', '[]', '[]')"""
        )
    if version >= 4:
        index_all(connection)
    if version >= 6:
        for statement in FOREIGN:
            connection.execute(statement)
    connection.close()


def check(path: Path, version: int) -> None:
    """Open it, and find what `make_old` put there."""
    with Store.open(path) as store:
        assert store.progress_of("a")[0].schedule.reps == 3
        assert [hit.card_id for hit in store.search("memory")] == ["a"]
        assert len(store.history(1)) == (1 if version >= 2 else 0)
        assert len(store.runs()) == (1 if version >= 3 else 0)
        assert store.connection.execute("PRAGMA user_version").fetchone()[0] == LATEST
        assert store.connection.execute("PRAGMA foreign_key_check").fetchall() == []
        for table in FOREIGN_TABLES:
            rows = store.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            assert rows == (1 if version >= 6 else 0)
        assert store.connection.execute("SELECT origin FROM deck").fetchone()[0] == ("anki" if version >= 6 else None)


@pytest.mark.parametrize("version", range(1, LATEST))
def test_from_each_earlier_version(path: Path, version: int) -> None:
    make_old(path, version)
    check(path, version)
    copy = backup.newest(path)
    assert copy is not None
    assert copy.stem.endswith(f"schema-{version}")
    with sqlite3.connect(copy) as old:
        assert old.execute("PRAGMA user_version").fetchone()[0] == version
    old.close()


@pytest.mark.parametrize("version", range(1, LATEST))
def test_migrated_and_new_have_the_same_schema(path: Path, tmp_path: Path, version: int) -> None:
    make_old(path, version)
    query = "SELECT type, name, sql FROM sqlite_schema ORDER BY type, name"
    with Store.open(path) as old, Store.open(tmp_path / "new.db") as new:
        assert old.connection.execute(query).fetchall() == new.connection.execute(query).fetchall()


def make_rendered(path: Path, count: int) -> None:
    """A database of version 6 with so many notes from Anki, whose faces stand in it, and one from a text file."""
    make_old(path, 6)
    with sqlite3.connect(path) as connection:
        add_notetype(connection, REVERSED.replace('"sortf": 0', '"sortf": 1'), 2)
        add_notetype(connection, '{"sortf": "x", "flds": 5}', 3)
        for number in range(count):
            add_note(connection, f"anki-{number}", f"el perro {number}", "<b>the dog</b>", number=2 + number % 3)
        for card, content in connection.execute("SELECT id, content FROM card WHERE kind = 'note'").fetchall():
            old = content.replace('"front":""', '"front":"rendered"').replace(
                '"faces":[0,1]', '"faces":[[0,"one \\"front\\"","a back"],[1,"two","back"]]'
            )
            connection.execute("UPDATE card SET content = ?, digest = 'd' WHERE id = ?", (old, card))
        index_all(connection)
        connection.execute(
            """INSERT INTO card SELECT NULL, 'csv-a', deck, topic, kind, level, frequency, 0, 'd', 1, 1, NULL,
            replace(content, 'anki-0', 'csv-a') FROM card WHERE id = 'anki-0'"""
        )
    connection.close()


def test_notes_from_anki_lose_the_faces_that_were_rendered(path: Path) -> None:
    make_rendered(path, 230)
    with Store.open(path) as store:
        query = "SELECT content, digest, fields FROM card JOIN anki_note ON anki_note.card = card.id WHERE card.id = ?"
        for number, front in ((0, "the dog"), (1, "el perro 1"), (2, "el perro 2"), (229, "el perro 229")):
            content, digest, fields = store.connection.execute(query, (f"anki-{number}",)).fetchone()
            new = (f"anki-{number}", "anki-spanish", "anki-spanish", "en", (0, 1), ("one", "two"))
            assert content == encode_note(*new)
            assert store.faces.fronts(content) == {Lang.EN: front}
            assert digest == fingerprint(content, "anki-spanish", fields)
        assert store.connection.execute("SELECT count(*) FROM card WHERE content LIKE '%rendered%'").fetchone() == (1,)
        assert [face.front for face in store.card("anki-3").text(Lang.EN).faces] == ["el perro 3", "Which? **the dog**"]
        assert [face.back for face in store.card("csv-a").text(Lang.EN).faces] == ["a back", "back"]
        assert store.search("a back") == []  # found by its fields from now on
        assert [hit.card_id for hit in store.search("perro 229")] == ["anki-229"]
        before = list(store.connection.iterdump())
    with Store.open(path) as store:
        assert list(store.connection.iterdump()) == before


def test_a_migration_that_fails_leaves_the_old_version(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_old(path, 2)

    def fails(db: Database) -> None:
        db.conn.execute("CREATE TABLE half (id)")
        raise RuntimeError("no")

    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS[:2], fails))
    with pytest.raises(RuntimeError):
        Store.open(path)
    with sqlite3.connect(path) as old:
        assert old.execute("PRAGMA user_version").fetchone()[0] == 2
        assert old.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'half'").fetchone()[0] == 0
    old.close()


def test_the_present_version_stays_as_it_is(path: Path) -> None:
    make_old(path, LATEST)
    check(path, LATEST)
    assert backup.newest(path) is None


def test_a_new_database_needs_no_backup(path: Path) -> None:
    Store.open(path).close()
    assert backup.newest(path) is None


def test_an_older_schema_is_not_read_only(path: Path) -> None:
    make_old(path, 1)
    with pytest.raises(StoreError, match="has the older schema 1; start `llmquiz study` once"):
        Store.open(path, read_only=True)
