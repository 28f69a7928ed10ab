"""Libraries to take out and bring back: one with a row of everything, and the commands without the rest of the app."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import typer

from llmquiz.cli import exportlibrary, importjson
from llmquiz.core.card import Card, CardText, Kind, Lang, NoteFace
from llmquiz.exchange.libraryfiles import Home
from llmquiz.exchange.libraryjson import tables
from llmquiz.store import Store, migrations
from llmquiz.store.codec import encode_card, encode_note
from llmquiz.store.search import index_all
from tests.store.notes import notetype
from tests.support.making import NOON, make_card, make_choice, make_cloze, make_deck

PICTURE = bytes(range(256)) * 300  # longer than a line of the file
SCHEDULES = """UPDATE schedule SET state = 2, due = 739000, interval = 9, stability = 12.3456789012345678,
difficulty = 5.1, last_review = 1790000000.125, reps = 3, lapses = 1, flag = 2, leech = 1 WHERE id = 1"""
MISC = (
    "INSERT INTO meta VALUES ('now', '1')",
    SCHEDULES,
    "INSERT INTO review VALUES (1790000000125, 1, 739000, 3, 2, 9, 4, 12.3, 5.1, 0.91, 4200, NULL, NULL)",
    "INSERT INTO review VALUES (1790000000126, 1, 739000, 1, 2, -600, 9, 0.0, 0.0, NULL, 99, 1, 2500)",
    "INSERT INTO undone VALUES (1790000000126, 1790000009)",
    "INSERT INTO action VALUES (1, 1790000000.5, 739000, 'rate', 1, 1790000000126, '[[1,2,3]]', NULL)",
    "INSERT INTO action VALUES (2, 1790000009.5, 739000, 'undo', 1, NULL, '[]', 1)",
    """INSERT INTO run VALUES (1, 'kvcache', 'a', '{"n":8}', 'cpu', '{}', 1790000000.5, 1.5, 'ok', '{"speedup":2.5}',
    '[]', '[]', '[]', NULL)""",
    """INSERT INTO run VALUES (2, 'flash', NULL, '{}', 'cpu', '{}', 1790000000.5, 1.5, 'failed', '{}', '[]', '[]', '[]',
    'out | of luck')""",
    "INSERT INTO prediction VALUES (1, 1, 'a', 'speedup', 3.0, 2.5, 'good', 1790000000.75)",
    "INSERT INTO anki_reschedule VALUES (5, 1, 1, 2, 3, 4, 0)",
    'INSERT INTO anki_notetype VALUES (7, \'{"name": "Basic"}\')',
    "INSERT INTO anki_preset VALUES (8, '{}')",
    "INSERT INTO anki_deck VALUES (9, 'anki-spanish', '{}')",
    "INSERT INTO anki_note VALUES ('anki-1', 4, 'guid', 7, 5, ' tag ', 'front\x1f<b>back</b>')",
    "INSERT INTO anki_card VALUES ((SELECT id FROM schedule WHERE card = 'anki-1' AND ordinal = 0), 6, 9, 2500, '{}')",
)


def note(card_id: str = "anki-1", *faces: tuple[str, str], deck: str = "anki-spanish") -> Card:
    """A note with these faces, fronts and backs."""
    made = faces or (("el perro\nde la casa ![dog](dog.png)", "the dog"), ("the dog", "el perro"))
    shown = tuple(NoteFace(number, front, back) for number, (front, back) in enumerate(made))
    text = CardText(made[0][0].split("\n")[0], "", faces=shown)
    return make_card(card_id, deck, kind=Kind.NOTE, texts={Lang.EN: text}, tags=("a", "b"))


def fill(home: Home) -> None:
    """A library with at least one row in every table, a deck file and a media file."""
    cards = (make_card("a", chinese="为什么？"), make_cloze("b", 2), make_choice("c"), make_card("gone"))
    cards = tuple(it if Lang.ZH in it.texts else _translated(it) for it in cards)
    both = {Lang.EN: "Deck", Lang.ZH: "卡组"}
    deck = make_deck(*cards)
    spanish = make_deck(note(), deck="anki-spanish", position=7)
    with Store.open(home.database) as store:
        store.sync([type(deck)(deck.id, both, cards, {Lang.EN: "About."}), spanish], now=NOON)
        store.sync([type(deck)(deck.id, both, cards[:-1], {Lang.EN: "About."})], now=NOON + 1)
        with store.transaction() as connection:
            for statement in MISC:
                connection.execute(statement)
            import hashlib

            sha1 = hashlib.sha1(PICTURE, usedforsecurity=False).hexdigest()
            connection.execute("INSERT INTO media VALUES ('dog.png', ?, ?)", (sha1, len(PICTURE)))
    home.decks.mkdir(parents=True)
    home.media.mkdir()
    (home.decks / "mine.en.md").write_bytes("# Mine\r\n\r\n## Q? {#mine-q topic=t}\r\n\r\nÄ 🐕.\r\n".encode())
    (home.media / "dog.png").write_bytes(PICTURE)


def unrender(home: Home) -> None:
    """The note of `fill` without faces, and with a note type that they are made by."""
    sides = ('<img src="dog.png"> {{Front}}', "{{Back}}"), ("{{Back}}", "{{Front}} ({{Deck}})")
    with Store.open(home.database) as store, store.transaction() as connection:
        connection.execute("UPDATE anki_notetype SET content = ?", (notetype(*sides),))
        connection.execute("UPDATE anki_deck SET content = ?", ('{"name":"Languages::Spanish"}',))
        content = encode_note("anki-1", "anki-spanish", "topic", "en", (0, 1), ("a", "b"))
        connection.execute("UPDATE card SET content = ? WHERE id = 'anki-1'", (content,))


def home_in(folder: Path) -> Home:
    """A home below `folder`."""
    return Home(folder / "data" / "llmquiz.db", folder / "data" / "decks", folder / "data" / "media")


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table of the database at `path`."""
    with closing(sqlite3.connect(path)) as connection:
        return rows_of(connection)


def rows_of(connection: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    return {
        table.name: connection.execute(f"SELECT * FROM {table.name} ORDER BY {', '.join(table.keys)}").fetchall()
        for table in tables(connection)
    }


def empty(version: int = migrations.LATEST) -> sqlite3.Connection:
    """A database of `version` in memory."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrations.apply(SimpleNamespace(conn=connection), version)  # type: ignore[arg-type]
    return connection


def old(version: int) -> sqlite3.Connection:
    """A database of `version` with a card, and a review where there is a log."""
    connection = empty(version)
    connection.execute("INSERT INTO deck (id, title_en, position, builtin) VALUES ('deck', 'Deck', 0, 0)")
    connection.execute(
        """INSERT INTO card (id, deck, topic, kind, level, frequency, position, digest, added_at, changed_at, content)
        VALUES ('a', 'deck', 't', 'open', 'L1', 'high', 0, 'd', 1, 1, ?)""",
        (encode_card(make_card("a", answer="memory for speed")),),
    )
    connection.execute("INSERT INTO schedule (card, ordinal, state, due, reps) VALUES ('a', 0, 2, 9, 3)")
    if version >= 2:
        connection.execute(
            """INSERT INTO review (id, schedule, day, rating, state, interval, last_interval, stability, difficulty,
            duration_ms) VALUES (7, 1, 5, 3, 0, 1, 0, 2.5, 5.0, 900)"""
        )
    if version >= 4:
        index_all(connection)
    return connection


def command(*argv: str) -> None:
    """Run ``export csv``, ``export markdown``, ``export json`` or ``import json``; errors are raised."""
    app, export, import_ = typer.Typer(), typer.Typer(), typer.Typer()
    for group in (export, import_):
        group.callback()(lambda: None)
    for function in (exportlibrary.csv, exportlibrary.markdown, exportlibrary.json):
        export.command(function.__name__)(function)
    import_.command("json")(importjson.json)
    app.add_typer(export, name="export")
    app.add_typer(import_, name="import")
    app(args=list(argv), standalone_mode=False)


def _translated(card: Card) -> Card:
    from dataclasses import replace

    return replace(card, texts={**card.texts, Lang.ZH: card.texts[Lang.EN]})
