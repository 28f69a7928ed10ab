"""Two ways to write the parts of cards: as drafts that are converted together, or one by one by whatever it takes.

One pass over all fields of many notes costs a fraction of one for each. Where a note needs the parser after all, its
draft is dropped, and it is written once more with `Parsed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from llmquiz.anki.exporting import html, simple
from llmquiz.anki.exporting.escape import clean

_FIELD_END, _NOTE_END = "\x04\x05"
_NEXT_FIELD, _NEXT_NOTE = simple.ready(_FIELD_END), simple.ready(_NOTE_END)


class Writer(Protocol):
    """Turns the parts of a card into the fields of a note."""

    def block(self, markdown: str) -> str:
        """Whole paragraphs, lists, tables and code blocks."""

    def inline(self, markdown: str) -> str:
        """A line, without a paragraph around it."""

    def items(self, lines: Iterable[str]) -> str:
        """A bulleted list of lines; empty if there are none."""

    def html(self, ready: str) -> str:
        """HTML that is to stay as it is."""


class Draft:
    """Notes down what `finish` converts."""

    def block(self, markdown: str) -> str:
        markdown = clean(markdown).strip()
        if not markdown:
            return ""
        outlined = simple.outline(markdown)
        return simple.ready(html.parsed_block(markdown)) if outlined is None else outlined

    def inline(self, markdown: str) -> str:
        return clean(markdown).strip()

    def items(self, lines: Iterable[str]) -> str:
        items = [clean(line).strip() for line in lines]
        return f"{simple.ITEMS}{simple.NEXT_ITEM.join(items)}{simple.ITEMS_END}" if items else ""

    def html(self, ready: str) -> str:
        return simple.ready(ready)


class Parsed:
    """Converts each piece at once, by whichever way it takes."""

    def block(self, markdown: str) -> str:
        return html.block(markdown)

    def inline(self, markdown: str) -> str:
        return html.inline(markdown)

    def items(self, lines: Iterable[str]) -> str:
        return html.items(lines)

    def html(self, ready: str) -> str:
        return ready


def finish(drafts: Sequence[Mapping[str, str]]) -> list[dict[str, str] | None]:
    """The HTML of notes whose fields were written by `Draft`; None for a note that takes the parser."""
    draft = _NEXT_NOTE.join([_NEXT_FIELD.join(fields.values()) for fields in drafts])
    notes = simple.finish(draft).split(_NOTE_END) if drafts else []
    return [
        None if simple.DECLINED in note else dict(zip(fields, note.split(_FIELD_END), strict=True))
        for fields, note in zip(drafts, notes, strict=True)
    ]
