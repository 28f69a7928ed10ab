"""The fields of one note, converted to HTML together: one pass over all of them costs a fraction of one for each.

A `Draft` takes Markdown and hands out text that only its own `finish` can read. Where a field needs the parser after
all, `finish` gives up, and the note is written once more with `Parsed`, piece by piece.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from llmquiz.anki.exporting import html, simple
from llmquiz.anki.exporting.escape import clean


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

    def finish(self, fields: Mapping[str, str]) -> Mapping[str, str] | None:
        """The HTML of `fields`, in the order in which they were written; None if another writer must do it."""


class Draft:
    """Notes down what can be converted in one pass."""

    def __init__(self) -> None:
        self._ready: list[str] = []

    def block(self, markdown: str) -> str:
        markdown = clean(markdown).strip()
        if not markdown:
            return ""
        outlined = simple.outline(markdown, self._ready)
        return self.html(html.parsed_block(markdown)) if outlined is None else outlined

    def inline(self, markdown: str) -> str:
        return clean(markdown).strip()

    def items(self, lines: Iterable[str]) -> str:
        items = [clean(line).strip() for line in lines]
        return f"{simple.ITEMS}{simple.NEXT_ITEM.join(items)}{simple.ITEMS_END}" if items else ""

    def html(self, ready: str) -> str:
        self._ready.append(ready)
        return simple.READY

    def finish(self, fields: Mapping[str, str]) -> Mapping[str, str] | None:
        done = simple.finish(simple.FIELD_END.join(fields.values()), self._ready)
        return None if done is None else dict(zip(fields, done.split(simple.FIELD_END), strict=True))


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

    def finish(self, fields: Mapping[str, str]) -> Mapping[str, str] | None:
        return fields
