"""Migration 7: notes from Anki lose the faces that an older llmquiz rendered when it imported them.

Content, fingerprint and index become those that an import makes: a file that is imported again finds its notes as they
are.
"""

from __future__ import annotations

import json
import sqlite3

from llmquiz.store.codec import fingerprint
from llmquiz.store.intakewords import postpone

_CHUNK = 100  # notes, each of which may have a megabyte
_NOTES = """
SELECT anki_note.rowid, number, content, deck, fields
FROM anki_note CROSS JOIN card ON card.id = anki_note.card
WHERE anki_note.rowid > ? AND kind = 'note' ORDER BY anki_note.rowid LIMIT ?
"""
_NUMBERS = "SELECT min(number), max(number) FROM anki_note JOIN card ON card.id = anki_note.card WHERE kind = 'note'"


def unrender(connection: sqlite3.Connection) -> None:
    """Rewrite the notes, in the transaction that the caller holds."""
    place = 0
    while rows := connection.execute(_NOTES, (place, _CHUNK)).fetchall():
        notes = [(*_unrendered(content, deck, fields), number) for _, number, content, deck, fields in rows]
        connection.executemany("UPDATE card SET content = ?, digest = ? WHERE number = ?", notes)
        place = rows[-1][0]
    first, last = connection.execute(_NUMBERS).fetchone()
    if first is not None:
        postpone(connection, range(first, last + 1), ())


def _unrendered(content: str, deck: str, fields: str) -> tuple[str, str]:
    """A note's content without what it shows, and its fingerprint."""
    card = json.loads(content)
    for text in card["texts"].values():
        text["front"] = ""
        text["faces"] = [face if isinstance(face, int) else face[0] for face in text.get("faces", ())]
    content = json.dumps(card, ensure_ascii=False, separators=(",", ":"))
    return content, fingerprint(content, deck, fields)
