"""A deck as the Markdown files that it could have been read from: `parse` of what `render` writes is the same deck."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from llmquiz.core.card import Card, CardText, Deck, Frequency, Kind, Lang, Level
from llmquiz.deck import attributes, parts
from llmquiz.deck.attributes import Attributes
from llmquiz.deck.parts import Part


def render(deck: Deck) -> dict[Lang, str]:
    """The text of each of the deck's files."""
    langs = [lang for lang in Lang if lang in deck.titles]
    return {lang: "\n".join(_file(deck, lang, first=lang is langs[0])) for lang in langs}


def _file(deck: Deck, lang: Lang, *, first: bool) -> Iterator[str]:
    order = Attributes(values={"order": str(deck.position)} if first and deck.position else {})
    yield _heading(f"# {deck.titles[lang]}", order)
    yield ""
    if intro := deck.intros.get(lang):
        yield intro
        yield ""
    for card in deck.cards:
        yield from _card(card, card.texts[lang], lang, first)


def _card(card: Card, text: CardText, lang: Lang, first: bool) -> Iterator[str]:
    named = Attributes(card.id, dict(_values(card)) if first else {})
    yield _heading(f"## {text.front}", named)
    for paragraph in (text.answer, text.detail):
        if paragraph:
            yield ""
            yield paragraph
    yield from _list(Part.SYMBOLS, lang, text.symbols)
    yield from _list(Part.KEY_POINTS, lang, text.key_points)
    yield from _list(Part.CHOICES, lang, (_option(it.text, it.right, it.why) for it in text.choices))
    if text.pitfall:
        yield f"\n### {parts.heading(Part.PITFALL, lang)}\n{text.pitfall}"
    if first:
        yield from _list(Part.FOLLOW_UPS, lang, card.follow_ups)
        yield from _list(Part.CHECKS, lang, (f"`{check.expression}` = {check.value}" for check in card.checks))
        yield from _list(Part.SOURCES, lang, card.sources)
    yield ""


def _values(card: Card) -> Iterator[tuple[str, str]]:
    yield "topic", card.topic
    if card.level is not Level.L1:
        yield "level", card.level
    if card.frequency is not Frequency.MEDIUM:
        yield "frequency", card.frequency
    if card.kind is not Kind.OPEN:
        yield "kind", card.kind
    if card.lab:
        yield "lab", card.lab.lab
        yield from ((f"lab.{name}", value) for name, value in card.lab.params.items())
        if card.lab.metric:
            yield "metric", card.lab.metric
    if card.tags:
        yield "tags", " ".join(card.tags)
    if card.as_of:
        yield "as-of", card.as_of.isoformat()


def _heading(text: str, named: Attributes) -> str:
    return f"{text} {attributes.render(named)}".rstrip()


def _list(part: Part, lang: Lang, items: Iterable[str]) -> Iterator[str]:
    lines = [f"- {item}".replace("\n", "\n  ") for item in items]
    if lines:
        yield f"\n### {parts.heading(part, lang)}"
        yield from lines


def _option(text: str, right: bool, why: str) -> str:
    return f"[{'x' if right else ' '}] {text}" + (f"\n{why}" if why else "")
