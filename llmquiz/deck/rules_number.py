"""Rule S06: numbers are recomputed, and no number with a unit goes unchecked."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmquiz.core.card import Card, CardText, Kind
from llmquiz.deck import checks, cloze
from llmquiz.deck.context import Context, Problem
from llmquiz.deck.inline import Part, segments
from llmquiz.deck.math import MathError, to_unicode
from llmquiz.deck.quantity import Dimension, Quantity, parse_value, quantities

_SELF_EVIDENT = (0.0, 1.0)  # 0%, 100%, 1×
_MODEL_NAME = re.compile(r"[A-Z][\w.]*[ -](?:\d+(?:\.\d+)?[ -])?$")
_MODEL_SIZE = re.compile(r"[ -]?(?:parameter |参数)?(?:model|class|模型)|[- ]parameter")


def checks_hold(card: Card, context: Context) -> Iterator[Problem]:
    """S06: each check yields its value."""
    for check in card.checks:
        if problem := checks.evaluate(check):
            yield Problem(f"check: {problem}")


def numbers_are_checked(card: Card, context: Context) -> Iterator[Problem]:
    """S06: each number with a unit is a check's value, or goes into one."""
    known = list(_known(card))
    for lang, text in card.texts.items():
        shown = _plain("\n\n".join(_stated(card, text)))
        seen: set[str] = set()
        for start, quantity in quantities(shown):
            if quantity.text in seen or _is_name(shown, start, quantity) or _is_self_evident(quantity):
                continue
            seen.add(quantity.text)
            if not any(_matches(quantity, value) for value in known):
                problem = f"'{quantity.text}' is in no check; add '- `expression` = {quantity.text}' under Checks"
                yield Problem(problem, lang)


def _known(card: Card) -> Iterator[float]:
    for check in card.checks:
        if (value := parse_value(check.value)) is not None:
            yield value.value
        yield from checks.parts(check.expression)


def _stated(card: Card, text: CardText) -> Iterator[str]:
    answer = cloze.plain(text.answer) if card.kind is Kind.CLOZE else text.answer
    yield from (text.front, answer, text.detail, *text.key_points)
    yield from (choice.text for choice in text.choices if choice.right)


def _plain(markdown: str) -> str:
    return "".join(_shown(it.part, it.text) for it in segments(markdown))


def _shown(part: Part, text: str) -> str:
    if part in (Part.CODE, Part.FENCE):
        return " "
    if part is Part.TEXT:
        return text
    try:
        return to_unicode(text)
    except MathError:
        return " "


def _matches(quantity: Quantity, value: float) -> bool:
    return quantity.agrees(value) or value == quantity.raw


def _is_self_evident(quantity: Quantity) -> bool:
    return quantity.dimension in (Dimension.PERCENT, Dimension.FACTOR) and quantity.value in _SELF_EVIDENT


def _is_name(text: str, start: int, quantity: Quantity) -> bool:
    """``Llama 3 8B``, ``a 7B model``: a size that is part of a name or a configuration."""
    if quantity.dimension is not Dimension.PARAMETERS:
        return False
    stop = start + len(quantity.text)
    return bool(_MODEL_NAME.search(text[max(start - 24, 0) : start]) or _MODEL_SIZE.match(text[stop : stop + 12]))
