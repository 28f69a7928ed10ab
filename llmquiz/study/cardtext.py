"""A card as plain lines: what is asked, and what the answer says. For the line mode and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmquiz.core.card import Card, CardText, Kind, Lang
from llmquiz.deck.cloze import hide, reveal
from llmquiz.deck.plain import lines, one_line
from llmquiz.study.words import label, labelled


def question_markdown(card: Card, ordinal: int, lang: Lang) -> str:
    """What is asked, as Markdown: the front, for a cloze card with the sentence and its gap, of a note its face's."""
    text = card.text(lang)
    if card.kind is Kind.NOTE:
        return text.face(ordinal).front
    return f"{text.front}\n\n{hide(text.answer, ordinal)}" if card.kind is Kind.CLOZE else text.front


def answer_markdown(card: Card, ordinal: int, lang: Lang) -> str:
    """The answer and its detail, as Markdown."""
    text = card.text(lang)
    if card.kind is Kind.NOTE:
        return text.face(ordinal).back
    answer = reveal(text.answer, ordinal) if card.kind is Kind.CLOZE else text.answer
    return f"{answer}\n\n{text.detail}".rstrip()


def languages_of(card: Card, langs: Sequence[Lang]) -> tuple[Lang, ...]:
    """The languages of `langs` that the card is written in, else the one that it has."""
    return tuple(lang for lang in langs if lang in card.texts) or tuple(card.texts)[:1]


def question(card: Card, ordinal: int, order: Sequence[int], langs: Sequence[Lang]) -> Iterator[str]:
    """What is asked in each language, a thing a line, with the options of a choice card numbered in `order`."""
    for lang in languages_of(card, langs):
        yield from _labelled("question", question_markdown(card, ordinal, lang), lang)
        yield from options(card.text(lang), order)


def options(text: CardText, order: Sequence[int]) -> Iterator[str]:
    """The options of a choice card, numbered from 1 as they are shown."""
    for number, index in enumerate(order, 1):
        yield f"{number}. {one_line(text.choices[index].text)}"


def answer(card: Card, ordinal: int, order: Sequence[int], langs: Sequence[Lang]) -> Iterator[str]:
    """All that the back of the card says in each language, a thing a line."""
    for lang in languages_of(card, langs):
        text = card.text(lang)
        yield from _labelled("answer", answer_markdown(card, ordinal, lang), lang)
        yield from _choices(text, order, lang)
        yield from _listed("symbols", text.symbols, lang)
        yield from _listed("key_points", text.key_points, lang, numbered=True)
        if text.pitfall:
            yield from _labelled("pitfall", text.pitfall, lang)
    yield from _listed("sources", card.sources, langs[0])


def _choices(text: CardText, order: Sequence[int], lang: Lang) -> Iterator[str]:
    """Which option is right, and why each of the others is not."""
    for number, index in enumerate(order, 1):
        option = text.choices[index]
        verdict = labelled("right" if option.right else "wrong", one_line(option.text), lang)
        yield f"{number}. {verdict}" + (f" - {one_line(option.why)}" if option.why else "")


def _labelled(key: str, markdown: str, lang: Lang) -> Iterator[str]:
    first, *rest = lines(markdown) or [""]
    yield labelled(key, first, lang)
    yield from rest


def _listed(key: str, items: Sequence[str], lang: Lang, *, numbered: bool = False) -> Iterator[str]:
    if items:
        yield label(key, lang)
    for number, item in enumerate(items, 1):
        yield f"{number}. {one_line(item)}" if numbered else f"- {one_line(item)}"
