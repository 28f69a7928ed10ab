"""What a card shows, as Markdown, in the languages that the reader wants: nothing here knows of screens.

With both languages each part stands in English, then in Chinese. Formulas become Unicode; the hidden or found words of
a cloze card stand between `MARK` and `UNMARK`, since Markdown's own emphasis fails beside Chinese punctuation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from llmquiz.core.card import Card, CardText, Kind, Lang
from llmquiz.deck.cloze import deletions
from llmquiz.deck.math import render_markdown
from llmquiz.study.words import word
from llmquiz.tui.prose import MARK, UNMARK

Texts = Sequence[CardText]

_BLOCK = re.compile(r"[-*+>|#] |\||```|~~~|\$\$|\d+[.)] |!\[")


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a choice card as it is shown: `letter` by place, `why` only for wrong ones."""

    letter: str
    text: str
    why: str
    right: bool


@dataclass(frozen=True, slots=True)
class Face:
    """The parts of a card in the languages asked for, each Markdown; empty where the card has no such part."""

    question: str
    sentence: str
    sentence_shown: str
    options: tuple[Option, ...]
    answer: str
    key_points: tuple[str, ...]
    detail: str
    symbols: str
    pitfall: str
    follow_ups: str
    sources: str


def face(
    card: Card,
    langs: Sequence[Lang],
    *,
    ordinal: int | None = None,
    order: Sequence[int] = (),
    front_of: Callable[[str], str] = str,
) -> Face:
    """The face of `card`.

    Args:
        ordinal: the cloze index that is asked, or the face of a note; all of a note's faces if None.
        order: the order of the options; empty for that of the deck.
        front_of: the question of a follow-up by its card id.
    """
    texts = _texts(card, langs)
    if card.kind is Kind.NOTE:
        return _note(texts, ordinal)
    cloze = card.kind is Kind.CLOZE
    return Face(
        question=_joined(text.front for text in texts),
        sentence=_joined(_hidden(text.answer, ordinal) for text in texts) if cloze else "",
        sentence_shown=_joined(_found(text.answer, ordinal) for text in texts) if cloze else "",
        options=_options(texts, order),
        answer="" if cloze else _joined(text.answer for text in texts),
        key_points=_points(texts),
        detail=_joined(text.detail for text in texts),
        symbols=_joined(_list(text.symbols) for text in texts),
        pitfall=_joined(text.pitfall for text in texts),
        follow_ups=_list([front_of(id_) for id_ in card.follow_ups]),
        sources=_list(card.sources),
    )


def _note(texts: Texts, ordinal: int | None) -> Face:
    """A front's first paragraph is the question; what stands below it, like tables and code, is its sentence."""
    faces = [face for text in texts for face in (text.faces if ordinal is None else (text.face(ordinal),))]
    first, *others = faces
    head, _, rest = first.front.partition("\n\n")
    if _BLOCK.match(head):
        head, rest = "", first.front
    more = _joined(side for face in others for side in ("---", face.front, face.back))
    rest = render_markdown(rest)
    return Face(
        question=render_markdown(head),
        sentence=rest,
        sentence_shown=rest,
        options=(),
        answer=_joined([first.back]),
        key_points=(),
        detail=more,
        symbols="",
        pitfall="",
        follow_ups="",
        sources="",
    )


def as_markdown(face: Face, lang: Lang) -> str:
    """The whole card as Markdown for the clipboard, without our marks."""
    parts = [f"# {face.question}", face.sentence_shown, face.answer]
    parts += [_list([f"{option.letter}. {option.text}" for option in face.options])]
    labelled = {
        "key_points": _list(face.key_points),
        "symbols": face.symbols,
        "pitfall": face.pitfall,
        "sources": face.sources,
    }
    parts.insert(-1, face.detail)
    parts += [f"## {word(key, lang)}\n\n{text}" for key, text in labelled.items() if text]
    return "\n\n".join(part for part in parts if part).replace(MARK, "").replace(UNMARK, "") + "\n"


def _texts(card: Card, langs: Sequence[Lang]) -> list[CardText]:
    """The card in each language once, also where it lacks one of them."""
    texts = [card.text(lang) for lang in langs]
    return [text for index, text in enumerate(texts) if text not in texts[:index]]


def _joined(parts: Iterable[str]) -> str:
    return "\n\n".join(render_markdown(part) for part in parts if part)


def _list(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _points(texts: Texts) -> tuple[str, ...]:
    """Key points; with two languages the second follows in the same point."""
    count = max((len(text.key_points) for text in texts), default=0)
    return tuple(
        "  \n".join(render_markdown(text.key_points[i]) for text in texts if i < len(text.key_points))
        for i in range(count)
    )


def _options(texts: Texts, order: Sequence[int]) -> tuple[Option, ...]:
    first = texts[0].choices
    places = order or range(len(first))
    return tuple(
        Option(
            letter=chr(ord("a") + shown),
            text=_joined(dict.fromkeys(text.choices[place].text for text in texts)),
            why=_joined(dict.fromkeys(text.choices[place].why for text in texts)),
            right=first[place].right,
        )
        for shown, place in enumerate(places)
    )


def _hidden(source: str, ordinal: int | None) -> str:
    return _marked(source, ordinal, lambda text, hint: rf"\[{hint or '…'}\]")


def _found(source: str, ordinal: int | None) -> str:
    return _marked(source, ordinal, lambda text, hint: text)


def _marked(source: str, ordinal: int | None, show: Callable[[str, str], str]) -> str:
    pieces, position = [], 0
    for deletion in deletions(source):
        pieces.append(source[position : deletion.start])
        asked = deletion.index == ordinal
        pieces.append(f"{MARK}{show(deletion.text, deletion.hint)}{UNMARK}" if asked else deletion.text)
        position = deletion.stop
    return "".join([*pieces, source[position:]])
