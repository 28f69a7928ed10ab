"""Rules about wording: questions, answers, key points, options, claims that age."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

from llmquiz.core.card import Card, CardText, Kind, Lang
from llmquiz.deck import measure
from llmquiz.deck.context import Context, Problem
from llmquiz.deck.inline import prose

MAX_FRONT = {Lang.EN: 25, Lang.ZH: 40}
MAX_ANSWER = {Lang.EN: 40, Lang.ZH: 80}
MAX_KEY_POINT = {Lang.EN: 25, Lang.ZH: 40}
KEY_POINTS = range(3, 7)
OPTIONS = 4
AGES_AFTER = timedelta(days=183)
_SHORT_OPTION = 12  # below this, a longer right option gives nothing away

_TWO_IDEAS = re.compile(r"\band (?:how|why)\b|以及|分别", re.IGNORECASE)
_ESSAY = re.compile(r"\blist all\b|\bexplain\b|\bdescribe\b|有哪些|介绍一下", re.IGNORECASE)
_AGEING = re.compile(r"\blatest\b|\bcurrently\b|\bSOTA\b|目前|最新", re.IGNORECASE)


def one_question(card: Card, context: Context) -> Iterator[Problem]:
    """S01: one question mark, no second question, short."""
    for lang, text in card.texts.items():
        front = prose(text.front)
        marks = front.count("?") + front.count("？")
        wanted = 0 if card.kind is Kind.CLOZE else 1
        if marks > 1 or (wanted and not marks):
            yield Problem(f"front has {marks} question marks; ask one question, with one question mark", lang)
        if match := _TWO_IDEAS.search(front):
            yield Problem(f"front says '{match[0]}', so it asks two things; make two cards", lang)
        if (size := measure.length(text.front, lang)) > MAX_FRONT[lang]:
            unit = measure.unit(lang)
            yield Problem(f"front of {size} {unit}; at most {MAX_FRONT[lang]}: move context into the answer", lang)


def no_essay(card: Card, context: Context) -> Iterator[Problem]:
    """S02: a front asks something that has one answer."""
    for lang, text in card.texts.items():
        if match := _ESSAY.search(prose(text.front)):
            yield Problem(f"front says '{match[0]}'; ask for one fact, reason or number", lang)


def short_answer(card: Card, context: Context) -> Iterator[Problem]:
    """S04: the first paragraph answers the front, briefly."""
    for lang, text in card.texts.items():
        size = measure.length(measure.answer(card, text), lang)
        if size > MAX_ANSWER[lang]:
            unit = measure.unit(lang)
            yield Problem(f"short answer of {size} {unit}; at most {MAX_ANSWER[lang]}: start a new paragraph", lang)


def key_points(card: Card, context: Context) -> Iterator[Problem]:
    """S05: an open question has points to tick, each short enough to judge."""
    for lang, text in card.texts.items():
        if card.kind is Kind.OPEN and len(text.key_points) not in KEY_POINTS:
            yield Problem(f"{len(text.key_points)} key points; an open question has 3 to 6", lang)
        for number, point in enumerate(text.key_points, start=1):
            if (size := measure.length(point, lang)) > MAX_KEY_POINT[lang]:
                unit = measure.unit(lang)
                most = MAX_KEY_POINT[lang]
                yield Problem(f"key point {number} of {size} {unit}; at most {most}: one idea each", lang)


def dated(card: Card, context: Context) -> Iterator[Problem]:
    """S10: what is true only for now says when it was, and is looked at again."""
    if card.as_of and card.as_of > context.today:
        yield Problem(f"as-of {card.as_of} is in the future; write the day on which the claim was checked")
    elif card.as_of and context.today - card.as_of > AGES_AFTER:
        yield Problem(f"as-of {card.as_of} is over six months old; check the claim again and renew the date")
    if card.as_of:
        return
    for lang, text in card.texts.items():
        if match := _AGEING.search(prose("\n\n".join(_said(text)))):
            yield Problem(f"'{match[0]}' ages; add as-of=<date>, or say it without time", lang)


def options(card: Card, context: Context) -> Iterator[Problem]:
    """S13: a choice is fair, and its wrong options teach."""
    if card.kind is not Kind.CHOICE:
        return
    for lang, text in card.texts.items():
        if len(text.choices) != OPTIONS:
            yield Problem(f"{len(text.choices)} options; a choice has {OPTIONS}", lang)
        if len({" ".join(choice.text.lower().split()) for choice in text.choices}) < len(text.choices):
            yield Problem("two options are the same; make them distinct", lang)
        for number, choice in enumerate(text.choices, start=1):
            if not choice.right and not choice.why:
                yield Problem(f"option {number} does not say which mistake leads to it; add an indented line", lang)
        yield from _telling_length(text, lang)


def _telling_length(text: CardText, lang: Lang) -> Iterator[Problem]:
    from rich.cells import cell_len

    right = max((cell_len(choice.text) for choice in text.choices if choice.right), default=0)
    longest = max((cell_len(choice.text) for choice in text.choices if not choice.right), default=0)
    if right > _SHORT_OPTION and right > 1.5 * longest:
        yield Problem("the right option is over 1.5 times as long as any other; shorten it or lengthen them", lang)


def _said(text: CardText) -> Iterator[str]:
    yield from (text.front, text.answer, text.detail, text.pitfall, *text.key_points)
    yield from (part for choice in text.choices for part in (choice.text, choice.why))
