"""A card → an Anki note: its fields, tags and the identity by which a later import finds it again."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from llmquiz.anki import cloze, escape, html, notetypes
from llmquiz.anki.notetypes import NoteType
from llmquiz.core.card import Card, CardText, Choice, Kind, LabLink, Lang

_TYPES = {Kind.CLOZE: notetypes.CLOZE, Kind.CHOICE: notetypes.CHOICE}
_NOT_IN_TAGS = re.compile(r'[\s"\x00-\x1f\u3000]+')


@dataclass(frozen=True, slots=True)
class Note:
    """A note as Anki stores it.

    Attributes:
        guid: the same for a card for ever, so that an edited card is updated and not imported twice.
        fields: HTML, in the order of the note type's fields.
    """

    guid: str
    type: NoteType
    fields: tuple[str, ...]
    tags: tuple[str, ...]


def to_note(card: Card, langs: Sequence[Lang]) -> Note:
    """`card` as a note with the texts of `langs`; a card without any of them goes in the language that it has."""
    note_type = _TYPES.get(card.kind, notetypes.QUESTION)
    texts = {lang: card.texts[lang] for lang in langs if lang in card.texts} or dict([next(iter(card.texts.items()))])
    content = _common(card)
    for lang, text in texts.items():
        content |= {f"{part} {lang}": value for part, value in _written(card, text).items()}
    fields = tuple(content.get(name, "") for name in note_type.fields)
    return Note(f"llmquiz:{card.id}", note_type, fields, tuple(_tags(card)))


def _common(card: Card) -> dict[str, str]:
    return {
        "Id": _plain(card.id),
        "Lab": f"<code>{_plain(lab_command(card.lab))}</code>" if card.lab else "",
        "Sources": html.items(card.sources),
        "Follow-ups": _plain(", ".join(card.follow_ups)),
        "As of": card.as_of.isoformat() if card.as_of else "",
        "Topic": _plain(card.topic),
        "Level": str(card.level),
    }


def _plain(value: str) -> str:
    return escape.text(escape.clean(value))


def _written(card: Card, text: CardText) -> Mapping[str, str]:
    """The fields of one language, named without it."""
    tail = {
        "Key points": html.items(text.key_points),
        "Pitfall": html.block(text.pitfall),
        "Symbols": html.items(text.symbols),
        "Detail": html.block(text.detail),
    }
    if card.kind is Kind.CLOZE:
        return tail | {"Title": html.inline(text.front), "Sentence": cloze.field(text.answer)}
    head = {"Question": html.inline(text.front), "Answer": html.block(text.answer)}
    if card.kind is Kind.CHOICE:
        order = shuffled(card.id, len(text.choices))
        options = [text.choices[index] for index in order]
        head |= {"Options": _list(map(_bare, options)), "Marked options": _list(map(_marked, options))}
    return head | tail


def shuffled(card_id: str, count: int) -> list[int]:
    """The order of a choice card's options: fixed for the card, and the same in every language."""
    return sorted(range(count), key=lambda index: hashlib.sha256(f"{card_id}/{index}".encode()).digest())


def _list(entries: Iterable[str]) -> str:
    return f"<ol>{''.join(entries)}</ol>"


def _bare(choice: Choice) -> str:
    return f"<li>{html.inline(choice.text)}</li>"


def _marked(choice: Choice) -> str:
    mark = ' class="right"' if choice.right else ""
    why = f'<div class="why">{html.inline(choice.why)}</div>' if choice.why else ""
    return f"<li{mark}><span>{html.inline(choice.text)}</span>{why}</li>"


def lab_command(link: LabLink) -> str:
    """What to type in a terminal to run the experiment behind a card; quoted, since the deck may be a stranger's."""
    options = [word for name, value in link.params.items() for word in _option(name.replace("_", "-"), value)]
    return shlex.join(["llmquiz", "lab", link.lab, *options])


def _option(name: str, value: str) -> tuple[str, ...]:
    switches = {"true": (f"--{name}",), "false": (f"--no-{name}",)}
    return switches.get(value) or (f"--{name}", value)


def _tags(card: Card) -> Iterator[str]:
    pairs = (("topic", card.topic), ("level", card.level), ("frequency", card.frequency), ("kind", card.kind))
    for name in (*(f"{key}::{value}" for key, value in pairs), *card.tags):
        if tag := _NOT_IN_TAGS.sub("-", name).strip("-"):
            yield tag
