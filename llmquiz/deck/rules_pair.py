"""Rule S14: English and Chinese say the same."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmquiz.core.card import Card, CardText, Lang
from llmquiz.deck.context import Context, Problem
from llmquiz.deck.inline import code_blocks, prose
from llmquiz.deck.quantity import numerals
from llmquiz.deck.rules_formula import everything, used_symbols
from llmquiz.deck.symbolset import names

_DELETION = re.compile(r"\{\{c\d+::")
_ENGLISH_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_WORTH = {"twice": 2.0, "double": 2.0, "both": 2.0, "single": 1.0, "once": 1.0, "half": 2.0}
_ENGLISH = re.compile(rf"\b(?:{'|'.join([*_ENGLISH_WORDS, *_WORTH])})\b", re.IGNORECASE)
_CHINESE = dict(zip("零一二三四五六七八九十两双单半", (*map(float, range(11)), 2.0, 2.0, 1.0, 2.0), strict=True))


def same_choices(card: Card, context: Context) -> Iterator[Problem]:
    """S14: as many options, the right one at the same place."""
    for first, (lang, second) in _both(card):
        if len(first.choices) != len(second.choices):
            yield Problem(f"{len(second.choices)} options here, {len(first.choices)} in the other file", lang)
        elif [it.right for it in first.choices] != [it.right for it in second.choices]:
            yield Problem("another option is right than in the other file; keep the same order", lang)


def same_facts(card: Card, context: Context) -> Iterator[Problem]:
    """S14: as many key points; the same numbers, symbols and code."""
    for first, (lang, second) in _both(card):
        if len(first.key_points) != len(second.key_points):
            yield Problem(f"{len(second.key_points)} key points here, {len(first.key_points)} in the other file", lang)
        if bool(first.pitfall) != bool(second.pitfall):
            yield Problem("only one of the files has a pitfall; translate it", lang)
        yield from _numbers_differ(first, second, lang)
        yield from _symbols_differ(first, second, lang)
        if _code(first) != _code(second):
            yield Problem("code differs from the other file; only comments may", lang)


def _both(card: Card) -> Iterator[tuple[CardText, tuple[Lang, CardText]]]:
    if Lang.EN in card.texts and Lang.ZH in card.texts:
        yield card.texts[Lang.EN], (Lang.ZH, card.texts[Lang.ZH])


def _numbers_differ(first: CardText, second: CardText, lang: Lang) -> Iterator[Problem]:
    english, chinese = _prose(first), _prose(second)
    ours, theirs = set(numerals(english)), set(numerals(chinese))
    missing = ours - theirs - _chinese_words(chinese)
    added = theirs - ours - _english_words(english)
    if missing:
        yield Problem(f"numbers of the English text are missing: {_list(missing)}; write them as digits", lang)
    if added:
        yield Problem(f"numbers that the English text does not have: {_list(added)}; write them there as digits", lang)


def _symbols_differ(first: CardText, second: CardText, lang: Lang) -> Iterator[Problem]:
    ours, theirs = used_symbols(first).used, used_symbols(second).used
    if ours != theirs:
        yield Problem(f"formulas differ in {', '.join(names(ours ^ theirs))}; use the same in both files", lang)


def _prose(text: CardText) -> str:
    return prose(_DELETION.sub("", everything(text)))


def _english_words(text: str) -> set[float]:
    words = (match[0].lower() for match in _ENGLISH.finditer(text))
    return {_WORTH[word] if word in _WORTH else float(_ENGLISH_WORDS.index(word)) for word in words}


def _chinese_words(text: str) -> set[float]:
    return {_CHINESE[char] for char in text if char in _CHINESE}


def _code(text: CardText) -> list[str]:
    """The code, comments and blank lines left out."""
    lines = (re.split("#|//", line, maxsplit=1)[0].rstrip() for block in _blocks(text) for line in block.split("\n"))
    return [line for line in lines if line]


def _blocks(text: CardText) -> list[str]:
    return code_blocks(everything(text))


def _list(numbers: set[float]) -> str:
    return ", ".join(f"{number:,.10g}" for number in sorted(numbers)[:5])
