"""Notes from Anki as the store keeps them: fields and note types, and cards without faces."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from llmquiz.store.codec import encode_note, fingerprint

ANSWER = "{{FrontSide}}<hr id=answer>"
BASIC = 1


def notetype(
    *sides: tuple[str, str], fields: Sequence[str] = ("Front", "Back"), is_cloze: bool = False, name: str = "Basic"
) -> str:
    """A note type with a template for each pair of sides, as JSON of Anki's."""
    templates = [{"name": f"Card {n}", "ord": n, "qfmt": q, "afmt": a} for n, (q, a) in enumerate(sides)]
    columns = [{"name": field, "ord": place} for place, field in enumerate(fields)]
    return json.dumps({"name": name, "type": int(is_cloze), "sortf": 0, "flds": columns, "tmpls": templates})


REVERSED = notetype(
    ("{{Front}}", ANSWER + "{{Back}}"), ("Which? {{Back}}", ANSWER + "{{Front}} ({{Tags}} of {{Deck}})")
)


def add_notetype(connection: sqlite3.Connection, content: str, number: int = BASIC) -> None:
    """Keep a note type, in place of one of its number."""
    connection.execute("INSERT OR REPLACE INTO anki_notetype VALUES (?, ?)", (number, content))


def add_note(
    connection: sqlite3.Connection,
    card: str,
    *fields: str,
    ordinals: Sequence[int] = (0, 1),
    number: int = BASIC,
    tags: str = "one two",
    lang: str = "en",
) -> None:
    """A new note of note type `number` in the deck "Languages::Spanish"."""
    joined, deck = "\x1f".join(fields), "anki-spanish"
    content = encode_note(card, deck, deck, lang, ordinals, tags.split())
    connection.execute(
        "INSERT OR IGNORE INTO deck (id, title_en, position, builtin, origin) VALUES (?, 'Spanish', 9, 0, 'anki')",
        (deck,),
    )
    connection.execute(
        """INSERT OR IGNORE INTO anki_deck VALUES (8, 'anki-spanish', '{"name":"Languages::Spanish"}')"""
    )
    connection.execute(
        """INSERT INTO card (id, deck, topic, kind, level, frequency, position, digest, added_at, changed_at, content)
        VALUES (?, ?, ?, 'note', 'L1', 'medium', 0, ?, 1, 1, ?)""",
        (card, deck, deck, fingerprint(content, deck, joined), content),
    )
    anki_id = connection.execute("SELECT count(*) FROM anki_note").fetchone()[0] + 1
    connection.execute(
        "INSERT INTO anki_note VALUES (?, ?, ?, ?, 1, ?, ?)", (card, anki_id, card, number, tags, joined)
    )
    for ordinal in ordinals:
        part = connection.execute("INSERT INTO schedule (card, ordinal) VALUES (?, ?)", (card, ordinal)).lastrowid
        connection.execute("INSERT INTO anki_card VALUES (?, ?, 8, 2500, '{}')", (part, part))
