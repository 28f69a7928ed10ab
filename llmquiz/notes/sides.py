"""A note type's templates, compiled once for all of its notes: what each side adds, and what it cannot show.

A back that begins with ``{{FrontSide}}``, or names the fields of the front above the answer's line, says nothing new
there; and a field that is read aloud is not written a second time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from llmquiz.notes import mustache
from llmquiz.notes.mustache import Replacement, Template, TemplateError
from llmquiz.notes.neutral import neutral

_ELEMENT = re.compile(r"<(?:script|iframe|object|embed|applet)\b")
_HANDLER = re.compile(r"on[a-z]{3,20}\s{0,9}=")


class TemplateLike(Protocol):
    """One card of a note type."""

    @property
    def name(self) -> str: ...
    @property
    def ordinal(self) -> int: ...
    @property
    def front(self) -> str: ...
    @property
    def back(self) -> str: ...


class NoteTypeLike(Protocol):
    """What of a note type is needed to show its notes."""

    @property
    def name(self) -> str: ...
    @property
    def is_cloze(self) -> bool: ...
    @property
    def fields(self) -> Sequence[str]: ...
    @property
    def templates(self) -> Sequence[TemplateLike]: ...


@dataclass(frozen=True, slots=True)
class Sides:
    """A template, compiled. Both sides are None if it cannot be read."""

    name: str
    front: Template | None
    back: Template | None
    above: Template | None = None  # what the back says above the line that parts it from the answer
    hinted: tuple[str, ...] = ()  # fields that the front hides behind a hint, and that the back does not show


def compiled(template: TemplateLike, fields: Sequence[str], find: Callable[[str], None]) -> Sides:
    """The sides of a card of a note type with these fields; `find` is told what is wrong with them."""
    name = short(template.name)
    try:
        front, back = (mustache.parsed(it, fields) for it in (template.front, template.back))
    except TemplateError as error:
        find(f"template '{name}': {short(str(error))}; all fields are shown instead")
        return Sides(name, None, None)
    for field in {*front.unknown, *back.unknown}:
        find(f"template '{name}': there is no field '{short(field)}'; it is left out")
    if is_active(template.front) or is_active(template.back):
        find("scripts do not run here; they are left out")
    back = mustache.without(back, lambda it: it.name == "FrontSide")
    written = _written(front)
    front = mustache.without(front, lambda it: _is_speech(it) and it.name in written)
    written |= _written(back)
    back = mustache.without(back, lambda it: _is_speech(it) and it.name in written)
    above, back = mustache.halves(back)
    hints = (it.name for it in front.steps if isinstance(it, Replacement) and "hint" in it.filters)
    hinted = dict.fromkeys(it for it in hints if it in fields)
    return Sides(name, front, back, above, tuple(it for it in hinted if it not in back.shown))


def is_active(source: str) -> bool:
    """Whether a browser would run something of this HTML."""
    lower = source.lower()
    return (
        _ELEMENT.search(lower) is not None
        or ("script:" in lower and ("javascript:" in lower or "vbscript:" in lower))
        or "data:text/html" in lower
        or ("=" in lower and _HANDLER.search(lower) is not None)
    )


def short(text: str) -> str:
    """Words of a stranger for a line of ours."""
    text = " ".join(neutral(text).split())
    return text if len(text) <= 80 else f"{text[:79]}…"


def _written(template: Template) -> set[str]:
    """The fields that a side shows, rather than reads aloud."""
    return {it.name for it in template.steps if isinstance(it, Replacement) and not _is_speech(it)}


def _is_speech(step: Replacement) -> bool:
    return any(it == "tts" or it.startswith("tts ") for it in step.filters)
