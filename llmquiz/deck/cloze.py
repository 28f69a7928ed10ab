"""Deletions of a cloze card in Anki's notation: ``{{c1::hidden}}``, ``{{c1::hidden::hint}}``.

The text of a deletion ends at the first ``}}``, as in Anki; two closing braces in a formula inside it need a space
between them. Deletions do not nest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

MAX_INDEX = 99
_OPEN, _CLOSE, _HINT = "{{c", "}}", "::"
_DOLLAR = re.compile(r"(?<!\\)\$")


@dataclass(frozen=True, slots=True)
class Deletion:
    """A hidden part: ``source[start:stop]`` is its notation, `index` the ordinal under which it is scheduled."""

    index: int
    text: str
    hint: str
    start: int
    stop: int


class ClozeError(ValueError):
    """A deletion that cannot be read; the message says what and what to do."""


def deletions(source: str) -> list[Deletion]:
    """All deletions of `source`, in order; linear in its length.

    Raises:
        ClozeError: if one is not closed, nested, empty, or not numbered 1 to 99.
    """
    found: list[Deletion] = []
    position = source.find(_OPEN)
    while position >= 0:
        found.append(_deletion(source, position))
        position = source.find(_OPEN, found[-1].stop)
    return found


def hide(source: str, ordinal: int) -> str:
    """Markdown with the deletions of `ordinal` replaced by ``[...]`` or ``[hint]``; the others are shown."""
    return _replaced(source, lambda it: _blank(it) if it.index == ordinal else it.text)


def reveal(source: str, ordinal: int) -> str:
    """Markdown with the deletions of `ordinal` in bold; the others are shown."""
    return _replaced(source, lambda it: _bold(it.text) if it.index == ordinal else it.text)


def plain(source: str) -> str:
    """Markdown with every deletion shown and none marked."""
    return _replaced(source, lambda it: it.text)


def _replaced(source: str, replacement: Callable[[Deletion], str]) -> str:
    return "".join(_pieces(source, replacement))


def _pieces(source: str, replacement: Callable[[Deletion], str]) -> Iterator[str]:
    position = 0
    for deletion in deletions(source):
        yield source[position : deletion.start]
        yield replacement(deletion)
        position = deletion.stop
    yield source[position:]


def _blank(deletion: Deletion) -> str:
    return rf"\[{deletion.hint or '...'}\]"


def _bold(text: str) -> str:
    """`text` between asterisks, unless they would be shown: beside a letter they need a letter inside as well."""
    return f"**{text}**" if text[0].isalnum() and text[-1].isalnum() else text


def _deletion(source: str, start: int) -> Deletion:
    name, end = f"deletion '{source[start : start + 20]}'", source.find(_CLOSE, start)
    if end < 0:
        raise ClozeError(f"{name} is not closed; end it with }}}}")
    number, separator, body = source[start + len(_OPEN) : end].partition("::")
    if not separator or not (number.isascii() and number.isdigit()) or not 1 <= int(number[:4]) <= MAX_INDEX:
        raise ClozeError(f"{name} is not {{{{c1::text}}}} with a number from 1 to {MAX_INDEX}")
    if _OPEN in body:
        raise ClozeError(f"{name} holds another one; deletions do not nest")
    text, separator, hint = body.rpartition(_HINT)
    if not separator or not text or not hint or ":" in hint or "}" in hint:
        text, hint = body, ""
    if not text.strip():
        raise ClozeError(f"deletion c{number} hides nothing; write {{{{c{number}::text}}}}")
    if len(_DOLLAR.findall(text)) % 2:
        raise ClozeError(f"{name} cuts a formula in two; put a space between closing braces inside it, '}} }}'")
    return Deletion(int(number), text, hint, start, end + len(_CLOSE))
