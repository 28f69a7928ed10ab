"""Anki's template language, compiled: a template is a flat list of steps, so that no depth of ``{{#Field}}`` matters.

What people get wrong: filters act from right to left (``{{text:cloze:Text}}`` hides, then strips tags), an unknown
one shows the field as it is, and a field counts as empty if it holds nothing but spaces, ``<br>`` and ``<div>``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from llmquiz.notes.marks import ANSWER
from llmquiz.notes.neutral import neutral
from llmquiz.notes.tags import without_unseen

SPECIAL = frozenset({"Tags", "Deck", "Subdeck", "Card", "Type", "CardFlag", "CardID", "FrontSide"})
_OPENING, _OLD_OPENING = re.compile(r"\{\{|<!--"), re.compile("<%|<!--")
_CLOSING = {"{{": "}}", "<%": "%>", "<!--": "-->"}
_ANSWER_LINE = re.compile(r"<hr(?=[\s/])[^<>]*?\bid\s*=\s*[\"']?answer\b[^<>]*>", re.IGNORECASE)
_OLD_DELIMITERS = "{{=<% %>=}}"
_EMPTY = re.compile(r"(?:\s|</?(?:br|div) ?/?>)*+", re.IGNORECASE)
_NOTHING_FIRST = re.compile(r"\A(?:\s|<!--(?:(?!--|[<>]).)*+-->|<(?:div|span|section|center)(?=[\s>])[^<>]*>)++")
_NOTHING_LAST = ("</div>", "</span>", "</section>", "</center>")
_CLOZE_NAME = re.compile(r"c[0-9]{1,3}")


class TemplateError(ValueError):
    """A template whose conditions do not match; the message says which."""


class Text(NamedTuple):
    """HTML that stands on every card."""

    html: str


class Replacement(NamedTuple):
    """``{{filter:Name}}``; `filters` in the order in which they act."""

    name: str
    filters: tuple[str, ...]


class Condition(NamedTuple):
    """Go on at step `end` unless field `name` is there, or with `negated` is not."""

    name: str
    negated: bool
    end: int


@dataclass(frozen=True, slots=True)
class Template:
    """One side of a card.

    Attributes:
        steps: what to write, in order.
        unknown: names of fields that the note type does not have; they are left out.
        shown: fields that appear, at least under a condition.
    """

    steps: tuple[Text | Replacement | Condition, ...]
    unknown: tuple[str, ...]
    shown: frozenset[str]

    @property
    def only_field(self) -> str | None:
        """The field, if all of the template is that field, unfiltered."""
        if len(self.steps) == 1 and isinstance(it := self.steps[0], Replacement) and not it.filters:
            return it.name if it.name not in SPECIAL else None
        return None


def parsed(source: str, fields: Collection[str]) -> Template:
    """A template of a note type with these fields. Linear in the length of `source`.

    Raises:
        TemplateError: if a condition is not closed, or closed without being open.
    """
    source, opening = neutral(source), _OPENING
    if source.lstrip().startswith(_OLD_DELIMITERS):
        source, opening = source.lstrip()[len(_OLD_DELIMITERS) :], _OLD_OPENING
    source = _ANSWER_LINE.sub(ANSWER, source)
    steps: list[Text | Replacement | Condition] = []
    opened: list[tuple[str, bool, int]] = []
    unknown: dict[str, None] = {}
    for is_text, piece in _pieces(source, opening):
        if is_text:
            steps.append(Text(without_unseen(piece)))
            continue
        sign, name = piece[:1], piece[1:].strip()
        if sign and sign in "#^":
            opened.append((name, sign == "^", len(steps)))
            steps.append(Condition(name, sign == "^", 0))
            if name not in fields and name not in SPECIAL and not _CLOZE_NAME.fullmatch(name):
                unknown[name] = None
        elif sign == "/":
            if not opened or opened[-1][0] != name:
                expected = f"'{{{{/{opened[-1][0]}}}}}'" if opened else f"'{{{{#{name}}}}}' before it"
                raise TemplateError(f"found '{{{{/{name}}}}}' where {expected} should be")
            _, negated, start = opened.pop()
            steps[start] = Condition(name, negated, len(steps))
        else:
            replacement = _replacement(piece, fields)
            if replacement.name in fields or replacement.name in SPECIAL:
                steps.append(replacement)
            elif replacement.name or not replacement.filters:
                unknown[replacement.name] = None
    if opened:
        raise TemplateError(f"'{{{{/{opened[-1][0]}}}}}' is missing")
    return _template(steps, tuple(unknown))


def is_empty(html: str) -> bool:
    """Whether a field counts as empty in a condition."""
    return _EMPTY.fullmatch(html) is not None


def halves(template: Template) -> tuple[Template | None, Template]:
    """What stands above the answer's line and below it; the line must be outside of conditions."""
    inside = 0
    for index, step in enumerate(template.steps):
        if isinstance(step, Condition):
            inside = max(inside, step.end)
        elif isinstance(step, Text) and index >= inside and ANSWER in step.html:
            above, _, below = step.html.partition(ANSWER)
            later = [
                it._replace(end=it.end - index) if isinstance(it, Condition) else it
                for it in template.steps[index + 1 :]
            ]
            return (
                _template([*template.steps[:index], Text(above)], template.unknown),
                _template([Text(below), *later], template.unknown),
            )
    return None, template


def without(template: Template, is_gone: Callable[[Replacement], bool]) -> Template:
    """A template without some of its replacements, and without the blanks around what is left."""
    gone = [isinstance(it, Replacement) and is_gone(it) for it in template.steps]
    if not any(gone):
        return template
    places = [0]
    for it in gone:
        places.append(places[-1] + (not it))
    kept = [
        step._replace(end=places[step.end]) if isinstance(step, Condition) else step
        for step, is_out in zip(template.steps, gone, strict=True)
        if not is_out
    ]
    return _template(kept, template.unknown)


def _pieces(source: str, opening: re.Pattern[str]) -> list[tuple[bool, str]]:
    """Text, and what stands between braces; comments are text, and so are braces without an end."""
    found: list[tuple[bool, str]] = []
    endless: set[str] = set()
    text = position = 0
    while match := opening.search(source, position):
        closing = _CLOSING[match[0]]
        end = -1 if closing in endless else source.find(closing, match.end())
        if end < 0:
            endless.add(closing)
            position = match.end()
        elif match[0] == "<!--":
            position = end + len(closing)
        else:
            if match.start() > text:
                found.append((True, source[text : match.start()]))
            found.append((False, source[match.end() : end].strip(" \t\n{")))
            text = position = end + len(closing)
    if text < len(source):
        found.append((True, source[text:]))
    return found


def _replacement(piece: str, fields: Collection[str]) -> Replacement:
    if piece in fields:  # old collections have names with a colon
        return Replacement(piece, ())
    *filters, name = piece.split(":")
    return Replacement(name.strip(), tuple(it.strip() for it in reversed(filters) if it.strip()))


def _template(steps: Sequence[Text | Replacement | Condition], unknown: tuple[str, ...]) -> Template:
    """A template without what has no effect at its ends."""
    steps = list(steps)
    shown = frozenset(it.name for it in steps if isinstance(it, Replacement)) - SPECIAL
    if steps and isinstance(first := steps[0], Text):
        steps[0] = Text(_NOTHING_FIRST.sub("", first.html))
    if steps and isinstance(last := steps[-1], Text):
        text = last.html.rstrip()
        while text.endswith(_NOTHING_LAST):
            text = text[: text.rindex("<")].rstrip()
        steps[-1] = Text(text)
    if not any(isinstance(it, Condition) for it in steps):
        steps = [it for it in steps if it != Text("")]
    return Template(tuple(steps), unknown, shown)
