"""A note that came from another program as text → notes of our type ``llmquiz Note v1``, a card for each face.

A note type has a fixed number of templates, so the face of ordinal n is card n mod 8 of the note's part n div 8: a face
that is added later moves no other.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from llmquiz.anki.exporting import html, notetypes
from llmquiz.anki.exporting.note import Note, plain, tags
from llmquiz.core.card import Card, Lang

_PICTURE = re.compile(r"!\[[^\]]*\]\(<?([^)>]+)>?\)")


def to_notes(card: Card, langs: Sequence[Lang], media: Collection[str], named: set[str]) -> dict[int, Note]:
    """The Anki notes of `card` by the number of the part.

    Args:
        media: files that are kept here; a picture that is none of them is shown as its description.
        named: gets the names of those that the card shows.
    """
    text = card.text(next((lang for lang in langs if lang in card.texts), langs[0]))
    parts: dict[int, dict[str, str]] = {}
    for face in text.faces:
        part, slot = divmod(max(face.ordinal, 0), notetypes.FACES)
        shown = {"Front": face.front, "Back": face.back}
        for side, markdown in shown.items():
            pictures = {name for name in _PICTURE.findall(markdown) if name in media}
            named |= pictures
            parts.setdefault(part, {})[f"{side} {slot + 1}"] = html.block(markdown, pictures)
    return {
        part: Note(
            f"llmquiz:{card.id}/{part}" if part else f"llmquiz:{card.id}",
            notetypes.NOTE,
            tuple(({"Id": plain(card.id)} | fields).get(name, "") for name in notetypes.NOTE.fields),
            tags(card.tags),
        )
        for part, fields in parts.items()
    }
