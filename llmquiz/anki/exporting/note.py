"""A card → an Anki note: its fields, tags and the identity by which a later import finds it again."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from llmquiz.anki.exporting import cloze, escape, html, notetypes
from llmquiz.anki.exporting.draft import Draft, Parsed, Writer
from llmquiz.anki.exporting.notetypes import NoteType
from llmquiz.core.card import Card, CardText, Choice, Kind, LabLink, Lang

_TYPES = {Kind.CLOZE: notetypes.CLOZE, Kind.CHOICE: notetypes.CHOICE}
_PARTS = (
    *("Question", "Answer", "Options", "Marked options", "Title", "Sentence"),
    *("Key points", "Pitfall", "Symbols", "Detail"),
)
_NAMES = {lang: {part: f"{part} {lang.value}" for part in _PARTS} for lang in Lang}
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


def to_note(card: Card, langs: Sequence[Lang], evidence: str = "") -> Note:
    """`card` as a note with the texts of `langs`; a card without any of them goes in the language that it has.

    Args:
        evidence: HTML that stands below the command of the card's lab: what was measured.
    """
    note_type = _TYPES.get(card.kind, notetypes.QUESTION)
    texts = {lang: card.texts[lang] for lang in langs if lang in card.texts} or dict([next(iter(card.texts.items()))])
    content = _facts(card, evidence)
    content |= _converted(card, texts, Draft()) or _converted(card, texts, Parsed()) or {}
    fields = tuple([content.get(name, "") for name in note_type.fields])
    return Note(f"llmquiz:{card.id}", note_type, fields, tags(_facets(card)))


def _facts(card: Card, evidence: str) -> dict[str, str]:
    return {
        "Id": plain(card.id),
        "Lab": f"<code>{plain(lab_command(card.lab))}</code>{evidence}" if card.lab else "",
        "Follow-ups": plain(", ".join(card.follow_ups)),
        "As of": card.as_of.isoformat() if card.as_of else "",
        "Topic": plain(card.topic),
        "Level": str(card.level),
    }


def plain(value: str) -> str:
    """Text that is no Markdown, as HTML."""
    return value if value.replace("-", "").isalnum() else escape.text(escape.clean(value))


def _converted(card: Card, texts: Mapping[Lang, CardText], write: Writer) -> Mapping[str, str] | None:
    fields = {"Sources": write.items(card.sources)}
    for lang, text in texts.items():
        names = _NAMES[lang]
        fields |= {names[part]: value for part, value in _written(card, text, write).items()}
    return write.finish(fields)


def _written(card: Card, text: CardText, write: Writer) -> Mapping[str, str]:
    """The fields of one language, named without it."""
    if card.kind is Kind.CLOZE:
        head = {"Title": write.inline(text.front), "Sentence": write.html(cloze.field(text.answer))}
    else:
        head = {"Question": write.inline(text.front), "Answer": write.block(text.answer)}
    if card.kind is Kind.CHOICE:
        order = shuffled(card.id, len(text.choices))
        options = [text.choices[index] for index in order]
        head |= {
            "Options": write.html(_list(map(_bare, options))),
            "Marked options": write.html(_list(map(_marked, options))),
        }
    return head | {
        "Key points": write.items(text.key_points),
        "Pitfall": write.block(text.pitfall),
        "Symbols": write.items(text.symbols),
        "Detail": write.block(text.detail),
    }


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


def tags(names: Iterable[str]) -> tuple[str, ...]:
    """`names` as Anki has tags: without spaces and quotes."""
    return tuple(filter(None, map(_tag, names)))


@lru_cache(maxsize=4096)
def _tag(name: str) -> str:
    return _NOT_IN_TAGS.sub("-", name).strip("-")


def _facets(card: Card) -> Iterator[str]:
    yield f"topic::{card.topic}"
    yield f"level::{card.level}"
    yield f"frequency::{card.frequency}"
    yield f"kind::{card.kind}"
    yield from card.tags
