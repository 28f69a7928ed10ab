"""How long card text is for a reader: English in words, Chinese in characters.

A formula, or a piece of code, counts as one.
"""

from __future__ import annotations

import re

from llmquiz.core.card import Card, CardText, Kind, Lang
from llmquiz.deck import cloze
from llmquiz.deck.inline import prose

_STAND_IN = " ¤ "
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_LATIN = re.compile(r"¤|[A-Za-z0-9][\w.'’\-]*")


def length(markdown: str, lang: Lang) -> int:
    """Words of English, or characters of Chinese (with each Latin word among them as one)."""
    text = prose(markdown, formula=_STAND_IN, code=_STAND_IN)
    if lang is Lang.ZH:
        return len(_HAN.findall(text)) + len(_LATIN.findall(text))
    return sum(1 for word in text.split() if "¤" in word or any(char.isalnum() for char in word))


def unit(lang: Lang) -> str:
    """What `length` counts."""
    return "characters" if lang is Lang.ZH else "words"


def answer(card: Card, text: CardText) -> str:
    """The short answer as a reader sees it, every deletion shown."""
    return cloze.plain(text.answer) if card.kind is Kind.CLOZE else text.answer
