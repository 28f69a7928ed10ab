"""A card → an Anki note: its fields, tags and the identity by which a later import finds it again."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from llmquiz.anki.exporting import cloze, escape, html, notetypes
from llmquiz.anki.exporting.draft import Draft, Parsed, Writer, finish
from llmquiz.anki.exporting.notetypes import NoteType
from llmquiz.core.card import Card, Choice, Kind, LabLink, Lang

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
    return to_notes([card], langs, [evidence])[0]


def to_notes(cards: Sequence[Card], langs: Sequence[Lang], evidence: Sequence[str]) -> list[Note]:
    """As `to_note` for each of `cards` with its `evidence`; some dozens at once take half of the time."""
    written = finish([_written(card, langs, Draft()) for card in cards])
    return [
        _note(card, _written(card, langs, Parsed()) if fields is None else fields, measured)
        for card, fields, measured in zip(cards, written, evidence, strict=True)
    ]


def _note(card: Card, written: Mapping[str, str], evidence: str) -> Note:
    note_type = _TYPES.get(card.kind, notetypes.QUESTION)
    content = {**dict.fromkeys(note_type.fields, ""), **written, **_facts(card, evidence)}
    return Note(f"llmquiz:{card.id}", note_type, tuple(content.values()), tags(_facets(card)))


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


def _written(card: Card, langs: Sequence[Lang], write: Writer) -> dict[str, str]:
    fields = {"Sources": write.items(card.sources)}
    for lang in [lang for lang in langs if lang in card.texts] or [next(iter(card.texts))]:
        text, names = card.texts[lang], _NAMES[lang]
        if card.kind is Kind.CLOZE:
            fields[names["Title"]] = write.inline(text.front)
            fields[names["Sentence"]] = write.html(cloze.field(text.answer))
        else:
            fields[names["Question"]] = write.inline(text.front)
            fields[names["Answer"]] = write.block(text.answer)
        if card.kind is Kind.CHOICE:
            options = [text.choices[index] for index in shuffled(card.id, len(text.choices))]
            fields[names["Options"]] = write.html(_list(map(_bare, options)))
            fields[names["Marked options"]] = write.html(_list(map(_marked, options)))
        fields[names["Key points"]] = write.items(text.key_points)
        fields[names["Pitfall"]] = write.block(text.pitfall)
        fields[names["Symbols"]] = write.items(text.symbols)
        fields[names["Detail"]] = write.block(text.detail)
    return fields


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
