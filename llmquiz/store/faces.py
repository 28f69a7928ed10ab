"""What a note of Anki's says: front and faces, made of its fields and its note type when a card is handed out.

An import writes ten thousand notes and a session shows twenty, so the store keeps fields and no faces. Both tables may
be a stranger's, so nothing is taken for granted: a note whose type is missing or broken shows its fields.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from llmquiz.core.card import Card, CardText, Kind, Lang, NoteFace
from llmquiz.store.codec import decode_card, is_bare

if TYPE_CHECKING:
    from llmquiz.notes.template import Renderer  # studying cards of our own needs none of it

_FIELD_END = "\x1f"
_MOST_FACES = 2_000  # of a note; what is beyond shows the beginning of its front
_SHORT = 80  # characters of it
_MOST_FIELDS = 100  # of a note whose type is not known
_MOST_TYPES = 200  # that are kept ready
_MOST_VALUES = 1 << 19  # what begins or parts the values of a note type's JSON
_MARKS = '[{",'

# A note lies in the deck of its first card, as far as a template may show it.
_NOTE = """
SELECT fields, tags, notetype, anki_notetype.content, anki_deck.content
FROM anki_note LEFT JOIN anki_notetype ON anki_notetype.id = notetype
LEFT JOIN schedule ON schedule.card = anki_note.card AND ordinal = ?
LEFT JOIN anki_card ON anki_card.schedule = schedule.id LEFT JOIN anki_deck ON anki_deck.id = anki_card.deck
WHERE anki_note.card = ?
"""


class _Template(NamedTuple):
    name: str
    ordinal: int
    front: str
    back: str


class _NoteType(NamedTuple):
    name: str
    is_cloze: bool
    fields: tuple[str, ...]
    templates: tuple[_Template, ...] = ()
    sort_field: int = 0


class _Note(NamedTuple):
    """A note; `renderer` and `sort_field` are its type's."""

    fields: Sequence[str]
    tags: str
    deck: str
    renderer: Renderer
    sort_field: int

    @property
    def front(self) -> str:
        from llmquiz.notes.words import front

        return front(self.fields, self.sort_field, self.renderer.name)


class Faces:
    """Renders the notes of one database. Each note type is read once, and again when an import has replaced it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._types: dict[int, tuple[str | None, tuple[Renderer, int] | None]] = {}

    def card(self, content: str) -> Card:
        """The card that the store keeps as `content`, with all that it shows."""
        return self.shown(decode_card(content))

    def shown(self, card: Card) -> Card:
        """`card` with its faces rendered; itself, where they are."""
        if card.kind is not Kind.NOTE:
            return card
        bare = dict.fromkeys(face.ordinal for text in card.texts.values() for face in text.faces if is_bare(face))
        if not bare:
            return card
        note = self._note(card.id, next(iter(bare)))
        front = (note and note.front) or card.id
        shown = note.renderer.faces(note.fields, [*bare][:_MOST_FACES], tags=note.tags, deck=note.deck) if note else ()
        rendered = {face.ordinal: face for face in shown}
        return replace(card, texts={lang: _filled(text, front, rendered) for lang, text in card.texts.items()})

    def fronts(self, content: str) -> dict[Lang, str]:
        """What stands in lists for the card that the store keeps as `content`; its faces are not rendered for it."""
        card = decode_card(content)
        fronts = {lang: text.front for lang, text in card.texts.items()}
        if card.kind is Kind.NOTE and not all(fronts.values()):
            note = self._note(card.id, 0)
            fronts = {lang: front or (note and note.front) or card.id for lang, front in fronts.items()}
        return fronts

    def _note(self, card_id: str, ordinal: int) -> _Note | None:
        """The note, in the deck of one of its cards."""
        row = self._connection.execute(_NOTE, (ordinal, card_id)).fetchone()
        if row is None:
            return None
        fields, tags, notetype, definition, deck = row
        renderer, sort_field = self._type(notetype, definition) or (_without_type(fields), 0)
        parts = fields.split(_FIELD_END, len(renderer.fields))  # what is beyond the last field is not shown
        return _Note(parts, tags, _text(_entry(deck), "name"), renderer, sort_field)

    def _type(self, notetype: int, definition: str | None) -> tuple[Renderer, int] | None:
        """What shows the notes of a type, and the field that Anki sorts them by; None if it cannot be used."""
        known = self._types.get(notetype)
        if known is None or known[0] != definition:
            from llmquiz.notes.template import Renderer

            if len(self._types) >= _MOST_TYPES:
                self._types.clear()
            found = _note_type(_entry(definition))
            known = self._types[notetype] = definition, (Renderer(found), found.sort_field) if found else None
        return known[1]


def _filled(text: CardText, front: str, rendered: dict[int, NoteFace]) -> CardText:
    """`text` with its front, and with these faces in the place of bare ones; never with a blank one."""
    front = text.front or front
    faces = [
        rendered.get(face.ordinal) or NoteFace(face.ordinal, front[:_SHORT], "") if is_bare(face) else face
        for face in text.faces
    ]
    return replace(text, front=front, faces=tuple(faces))


def _without_type(fields: str) -> Renderer:
    """Shows the fields of a note that has none, numbered; deletions are hidden where there are some."""
    from llmquiz.notes.template import Renderer

    count = min(fields.count(_FIELD_END) + 1, _MOST_FIELDS)
    return Renderer(_NoteType("", "{{c" in fields, tuple([f"Field {number}" for number in range(1, count + 1)])))


def _note_type(entry: dict[str, Any]) -> _NoteType | None:
    """The note type of Anki's JSON, whose fields and templates stand in their order; None without fields."""
    fields, templates = _entries(entry.get("flds")), _entries(entry.get("tmpls"))
    if not fields:
        return None
    return _NoteType(
        name=_text(entry, "name"),
        is_cloze=entry.get("type") == 1,
        fields=tuple([_text(field, "name") for field in fields]),
        templates=tuple(
            [
                _Template(_text(it, "name"), ordinal, _text(it, "qfmt"), _text(it, "afmt"))
                for ordinal, it in enumerate(templates)
            ]
        ),
        sort_field=place if type(place := entry.get("sortf")) is int and 0 <= place < len(fields) else 0,
    )


def _entry(content: str | None) -> dict[str, Any]:
    """A JSON object of Anki's; an empty one if it is none, or has more values than one has."""
    if content is None or sum(map(content.count, _MARKS)) > _MOST_VALUES:
        return {}
    try:
        entry = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) else {}


def _entries(value: object) -> list[dict[str, Any]]:
    return value if isinstance(value, list) and all(isinstance(it, dict) for it in value) else []


def _text(entry: dict[str, Any], key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) else ""
