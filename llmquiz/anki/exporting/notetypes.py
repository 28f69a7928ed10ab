"""The note types, version 1: frozen, because Anki refuses to update notes whose type has other fields.

Ids, names and field lists never change. A need for another field is a new type, version 2, beside these.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from llmquiz.core.card import Lang

_CHANGED_AT = 1_763_769_600
"""Unix seconds at which the look of version 1 was settled; a later one would ask users to update it."""

_TAIL = (
    *(f"{part} {lang}" for part in ("Key points", "Pitfall", "Symbols", "Detail") for lang in Lang),
    *("Lab", "Sources", "Follow-ups", "As of", "Topic", "Level"),
)
_WORDS = {
    Lang.EN: {"Key points": "Key points", "Pitfall": "Pitfall", "Symbols": "Symbols", "Detail": "More"},
    Lang.ZH: {"Key points": "要点", "Pitfall": "误区", "Symbols": "符号", "Detail": "详解"},
}
_NAMES = {Lang.EN: "English", Lang.ZH: "中文"}


@dataclass(frozen=True, slots=True)
class NoteType:
    """A note type.

    Attributes:
        id: Anki's own, also the note type's identity in every collection that imported it.
        fields: the first one identifies the card and is what Anki's browser sorts by.
        front, back: of the first template.
        cloze: one card for each deletion, instead of one card.
        more: front and back of each further template.
    """

    id: int
    name: str
    fields: tuple[str, ...]
    front: str
    back: str
    cloze: bool = False
    more: tuple[tuple[str, str], ...] = ()


def _by_language(*parts: str) -> tuple[str, ...]:
    return ("Id", *(f"{part} {lang}" for part in parts for lang in Lang), *_TAIL)


def _given(name: str, html: str) -> str:
    return f"{{{{#{name}}}}}{html}{{{{/{name}}}}}"


@dataclass(frozen=True, slots=True)
class _Part:
    """A field of each language on the front, in a ``<div>`` of class `css`."""

    name: str
    css: str
    filter: str = ""


def _front(*parts: _Part) -> str:
    """Every language's `parts`, one language below the other."""
    lines = [
        _given(name, f'<div lang="{lang}" class="{part.css}">{{{{{part.filter}{name}}}}}</div>')
        for lang in Lang
        for part in parts
        for name in [f"{part.name} {lang}"]
    ]
    meta = '<div class="meta">{{Topic}} · {{Level}}</div>'
    return "\n".join(['<div class="lq">', meta, *lines, "</div>"])


def _back(top: str, answer: str, marker: str) -> str:
    """`top`, each language's answer (the second one folded if there are two), then where it comes from."""
    first, second = Lang
    return "\n".join(
        [
            top,
            '<div class="lq">',
            "<hr id=answer>",
            _given(f"{marker} {first}", f'<div lang="{first}">\n{_answer(first, answer)}\n</div>'),
            _given(f"{marker} {second}", _folded(second, answer, f"{marker} {first}")),
            *_foot(),
            "</div>",
        ]
    )


def _folded(lang: Lang, answer: str, other: str) -> str:
    alone = f"{{{{^{other}}}}} open{{{{/{other}}}}}"
    kind = f"{{{{^{other}}}}}alone{{{{/{other}}}}}"
    return (
        f'<details lang="{lang}" class="{kind}"{alone}><summary>{_NAMES[lang]}</summary>\n'
        f"{_answer(lang, answer)}\n</details>"
    )


def _answer(lang: Lang, answer: str) -> str:
    def section(part: str, before: str, after: str) -> str:
        name = f"{part} {lang}"
        return _given(name, before.replace("%", _WORDS[lang][part]) + f"{{{{{name}}}}}" + after)

    return "\n".join(
        [
            answer.replace("%", str(lang)),
            section("Key points", "<h2>%</h2>", ""),
            section("Pitfall", '<div class="pitfall"><h2>%</h2>', "</div>"),
            section("Symbols", "<h2>%</h2>", ""),
            section("Detail", "<details><summary>%</summary>", "</details>"),
        ]
    )


def _foot() -> Iterator[str]:
    yield '<div class="foot">'
    yield _given("Lab", "<p>{{Lab}}</p>")
    yield _given("Sources", "{{Sources}}")
    yield _given("Follow-ups", "<p>→ {{Follow-ups}}</p>")
    yield "<p>{{Id}}" + _given("As of", " · {{As of}}") + "</p>"
    yield "</div>"


_SHORT = '{{#Answer %}}<div class="short">{{Answer %}}</div>{{/Answer %}}'
_QUESTION = _Part("Question", "question")
_CLOZE_FRONT = _front(_Part("Title", "title"), _Part("Sentence", "sentence short", filter="cloze:"))

QUESTION = NoteType(
    id=1_763_769_600_101,
    name="llmquiz Question v1",
    fields=_by_language("Question", "Answer"),
    front=_front(_QUESTION),
    back=_back("{{FrontSide}}", _SHORT, "Question"),
)
CLOZE = NoteType(
    id=1_763_769_600_102,
    name="llmquiz Cloze v1",
    fields=_by_language("Title", "Sentence"),
    front=_CLOZE_FRONT,
    back=_back(_CLOZE_FRONT, "", "Sentence"),
    cloze=True,
)
CHOICE = NoteType(
    id=1_763_769_600_103,
    name="llmquiz Choice v1",
    fields=_by_language("Question", "Options", "Marked options", "Answer"),
    front=_front(_QUESTION, _Part("Options", "options")),
    back=_back(_front(_QUESTION, _Part("Marked options", "options")), _SHORT, "Question"),
)

NOTE_TYPES = (QUESTION, CLOZE, CHOICE)

FACES = 8
"""Sides that one note of `NOTE` has room for; a note with more becomes several."""


def _face(number: int) -> tuple[str, str]:
    """A template that makes a card only where its front is given."""
    front = _given(f"Front {number}", f'<div class="lq">{{{{Front {number}}}}}</div>')
    return front, f'{{{{FrontSide}}}}\n<div class="lq">\n<hr id=answer>\n{{{{Back {number}}}}}\n</div>'


NOTE = NoteType(
    id=1_763_769_600_104,
    name="llmquiz Note v1",
    fields=("Id", *(f"{side} {number}" for number in range(1, FACES + 1) for side in ("Front", "Back"))),
    front=_face(1)[0],
    back=_face(1)[1],
    more=tuple(_face(number) for number in range(2, FACES + 1)),
)
"""For notes that came from another program as text."""


@cache
def css() -> str:
    """The look of every card, in light and night mode, on desktop and phone."""
    return Path(__file__).with_name("card.css").read_text(encoding="utf-8")


def legacy(note_type: NoteType) -> dict[str, Any]:
    """`note_type` as the ``models`` column of a schema 11 collection has it."""
    return {
        "id": note_type.id,
        "name": note_type.name,
        "type": int(note_type.cloze),
        "mod": _CHANGED_AT,
        "usn": 0,
        "sortf": 0,
        "did": None,
        "tmpls": [_template(note_type, ordinal, *sides) for ordinal, sides in enumerate(_templates(note_type))],
        "flds": [_field(note_type, ordinal, name) for ordinal, name in enumerate(note_type.fields)],
        "css": css(),
        "latexPre": "\\documentclass[12pt]{article}\n\\begin{document}\n",
        "latexPost": "\\end{document}",
        "latexsvg": False,
        "req": [[ordinal, "any", [2 * ordinal + 1]] for ordinal in range(len(_templates(note_type)))],
    }


def _templates(note_type: NoteType) -> tuple[tuple[str, str], ...]:
    return ((note_type.front, note_type.back), *note_type.more)


def _template(note_type: NoteType, ordinal: int, front: str, back: str) -> dict[str, Any]:
    name = f"Card {ordinal + 1}" if note_type.more else "Card"
    sides = {"qfmt": front, "afmt": back, "bqfmt": "", "bafmt": ""}
    return {"name": name, "ord": ordinal, "did": None, "bfont": "", "bsize": 0, "id": note_type.id + ordinal, **sides}


def _field(note_type: NoteType, ordinal: int, name: str) -> dict[str, Any]:
    identity = {"name": name, "ord": ordinal, "id": note_type.id * 100 + ordinal}
    return {**identity, "sticky": False, "rtl": False, "font": "Arial", "size": 20, "media": []}
