"""Rules about formulas: a terminal can show them (M01), and their symbols are defined (S07)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmquiz.core.card import Card, CardText, Lang
from llmquiz.deck.context import Context, Problem
from llmquiz.deck.inline import formulas, prose
from llmquiz.deck.math import MathError, to_unicode
from llmquiz.deck.symbolset import Symbol, SymbolSet, read_symbols

_WORD = re.compile(r"[A-Za-zΑ-ω]\w*")


def formulas_can_be_read(card: Card, context: Context) -> Iterator[Problem]:
    """M01: every formula is in the subset."""
    for lang, text in card.texts.items():
        for formula in formulas(everything(text)):
            try:
                to_unicode(formula)
            except MathError as error:
                yield Problem(str(error), lang)


def symbols_are_defined(card: Card, context: Context) -> Iterator[Problem]:
    """S07: every letter of a formula is explained under Symbols."""
    for lang, text in card.texts.items():
        missing = sorted(undefined(text))
        if missing:
            names = ", ".join(f"${name}$" for name in missing)
            yield Problem(f"undefined in formulas: {names}; add '- $symbol$: meaning' under {_part(lang)}", lang)


def used_symbols(text: CardText) -> SymbolSet:
    """All symbols of a card's formulas, those of the symbol list left out."""
    said = (text.front, text.answer, text.detail, text.pitfall, *text.key_points)
    options = (part for choice in text.choices for part in (choice.text, choice.why))
    return read_symbols(formulas("\n\n".join([*said, *options])))


def undefined(text: CardText) -> set[str]:
    """Symbols that the formulas of a card use and its symbol list does not define."""
    defined = _defined(text)
    return {str(symbol) for symbol in used_symbols(text).free() if not symbol.is_covered(defined)}


def everything(text: CardText) -> str:
    """All Markdown of a card in one language, a paragraph for each part."""
    options = (part for choice in text.choices for part in (choice.text, choice.why))
    parts = [text.front, text.answer, text.detail, text.pitfall, *text.key_points, *text.symbols, *options]
    return "\n\n".join(part for part in parts if part)


def _defined(text: CardText) -> frozenset[Symbol]:
    found: set[Symbol] = set()
    for item in text.symbols:
        symbols = read_symbols(formulas(item))
        found |= symbols.used | symbols.constants
        head = re.split(r"[:：]", prose(item), maxsplit=1)[0]
        for word in _WORD.findall(head):
            base, _, sub = word.partition("_")
            found.add(Symbol(base, sub))
    return frozenset(found)


def _part(lang: Lang) -> str:
    return "符号" if lang is Lang.ZH else "Symbols"
