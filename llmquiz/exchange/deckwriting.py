"""Decks of the store as deck files that are read again: what the format cannot hold is written another way and told.

A deck that is larger than the parser takes becomes several, `<deck>`, `<deck>-2`, …; every file is parsed before it is
written, so a file that is there can be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from llmquiz.core.card import Card, Deck, Kind, Lang
from llmquiz.core.errors import DeckError
from llmquiz.deck import deckfile, reading
from llmquiz.deck.parse import parse_texts
from llmquiz.deck.render import render
from llmquiz.exchange.chosen import StoredDeck
from llmquiz.exchange.opencard import as_open, as_quoted, one_line, slug, tame
from llmquiz.store.codec import digest

_MAX_BYTES = reading.MAX_BYTES * 3 // 4
_MAX_LINES = reading.MAX_LINES * 3 // 4
_MAX_CARDS = deckfile.MAX_CARDS * 3 // 4


def write_deck(folder: Path, stored: StoredDeck, cards: Sequence[Card], findings: list[str]) -> int:
    """Write the deck files of `stored` with `cards` into `folder`; returns how many files it took.

    Raises:
        OSError: if they cannot be written.
    """
    written = 0
    for number, deck in enumerate(_volumes(_deck(stored, cards, findings)), start=1):
        named = deck if number == 1 else _numbered(deck, number)
        for lang, text in _sound(named, findings).items():
            (folder / f"{named.id}.{lang}.md").write_text(text, encoding="utf-8", newline="\n")
            written += 1
    return written


def _deck(stored: StoredDeck, cards: Sequence[Card], findings: list[str]) -> Deck:
    """The deck with every card in each of its languages, notes as open cards."""
    titles = {lang: one_line(title) or stored.id for lang, title in stored.titles.items()} or {Lang.EN: stored.id}
    intros = {lang: tame(text) for lang, text in stored.intros.items() if lang in titles and text.strip()}
    notes = [card for card in cards if card.kind is Kind.NOTE]
    if notes:
        several = sum(len(card.ordinals) > 1 for card in notes)
        faces = f", {several:,} of them with several faces in one card" if several else ""
        findings.append(f"deck '{stored.id}': {len(notes):,} notes are written as open cards{faces}")
    if len(titles) > 1 and (lacking := sum(not titles.keys() <= card.texts.keys() for card in cards)):
        findings.append(f"deck '{stored.id}': {lacking:,} cards lack a language; both files have the one that is there")
    whole = [replace(card, texts={lang: card.text(lang) for lang in titles}) for card in cards]
    shown = tuple(as_open(card) if card.kind is Kind.NOTE else card for card in whole)
    return Deck(slug(stored.id, "deck"), titles, shown, intros, min(max(stored.position, 0), 999_999), builtin=False)


def _volumes(deck: Deck) -> Iterator[Deck]:
    """`deck` in decks that are small enough to be read."""
    cards, size, lines = list[Card](), 0, 0
    for card in deck.cards:
        texts = render(replace(deck, cards=(card,), intros={})).values()
        own, own_lines = max(len(it.encode()) for it in texts), max(it.count("\n") for it in texts)
        if cards and (size + own > _MAX_BYTES or lines + own_lines > _MAX_LINES or len(cards) == _MAX_CARDS):
            yield replace(deck, cards=tuple(cards))
            cards, size, lines = [], 0, 0
        cards.append(card)
        size, lines = size + own, lines + own_lines
    yield replace(deck, cards=tuple(cards))


def _numbered(deck: Deck, number: int) -> Deck:
    titles = {lang: f"{title} ({number})" for lang, title in deck.titles.items()}
    return replace(deck, id=f"{deck.id}-{number}", titles=titles, intros={})


def _sound(deck: Deck, findings: list[str]) -> dict[Lang, str]:
    """The files of `deck`; cards that would not read back as they are stand in them as quotations."""
    texts = render(deck)
    if _read_back(deck, texts):
        return texts
    bare = replace(deck, intros={})
    cards = []
    for card in deck.cards:
        one = replace(bare, cards=(card,))
        is_sound = _read_back(one, render(one))
        if not is_sound:
            findings.append(f"card '{card.id}' does not fit the deck format; its text is quoted in an open card")
        cards.append(card if is_sound else as_quoted(card))
    mended = replace(deck, cards=tuple(cards))
    texts = render(mended)
    return texts if _read_back(mended, texts) else render(replace(mended, intros={}))


def _read_back(deck: Deck, texts: dict[Lang, str]) -> bool:
    """Whether parsing `texts` gives the cards of `deck`."""
    try:
        read = parse_texts(texts, {lang: Path(f"{deck.id}.{lang}.md") for lang in texts})
    except DeckError:
        return False
    return list(map(digest, read.cards)) == list(map(digest, deck.cards))
