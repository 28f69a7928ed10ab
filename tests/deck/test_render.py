"""What is rendered reads back as the same deck, whatever its texts hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from llmquiz.core.card import Card, CardText, Check, Choice, Deck, Frequency, Kind, LabLink, Lang, Level
from llmquiz.deck.parse import parse_texts
from llmquiz.deck.render import render

IDS = st.from_regex(r"[a-z0-9]{1,6}(-[a-z0-9]{1,4}){0,2}", fullmatch=True)
WORD = st.text("abcXYZ012 ,.:;()[]*_$\\|<>?!'\"`=+-/%&é中文，。", min_size=1, max_size=24)
LINE = WORD.map(lambda text: " ".join(text.split())).filter(lambda text: text and "```" not in text and "{" not in text)
LINE = LINE.filter(lambda text: not text.startswith(("#", "~~~")) and "&" not in text and "%" not in text)
TEXT = st.lists(LINE, min_size=1, max_size=3).map("\n".join)
CODE = LINE.map(lambda line: f"```python\n## {line}\n\n### Pitfall\n```")
BODY = st.lists(st.one_of(TEXT, CODE), max_size=3).map("\n\n".join)
ITEMS = st.lists(TEXT, max_size=3).map(tuple)
VALUE = st.text("abcXYZ012 ./:-_中", max_size=8)


@st.composite
def texts(draw: st.DrawFn, kind: Kind) -> CardText:
    choices: tuple[Choice, ...] = ()
    if kind is Kind.CHOICE:
        wrong = draw(
            st.lists(st.builds(Choice, LINE, st.just(False), st.one_of(st.just(""), TEXT)), min_size=1, max_size=3)
        )
        place = draw(st.integers(0, len(wrong)))
        choices = (*wrong[:place], Choice(draw(LINE), True), *wrong[place:])
    answer = draw(TEXT) if kind is not Kind.CLOZE else f"{draw(LINE)} {{{{c1::hidden}}}} {{{{c2::more::hint}}}}"
    front = draw(LINE)
    return CardText(front, answer, draw(BODY), draw(ITEMS), draw(BODY), choices, draw(ITEMS))


@st.composite
def decks(draw: st.DrawFn) -> Deck:
    langs = draw(st.sampled_from([(Lang.EN,), (Lang.ZH,), (Lang.EN, Lang.ZH)]))
    cards = []
    for card_id in draw(st.lists(IDS, max_size=4, unique=True)):
        kind = draw(st.sampled_from([kind for kind in Kind if kind is not Kind.NOTE]))
        params = draw(st.dictionaries(st.from_regex(r"[a-z]\w{0,5}", fullmatch=True), VALUE, max_size=2))
        lab = LabLink(draw(IDS), params, draw(IDS) if kind is Kind.PREDICT else None)
        cards.append(
            Card(
                id=card_id,
                deck="deck",
                topic=draw(IDS),
                kind=kind,
                level=draw(st.sampled_from(Level)),
                frequency=draw(st.sampled_from(Frequency)),
                texts={lang: draw(texts(kind)) for lang in langs},
                tags=draw(st.lists(IDS, max_size=2).map(tuple)),
                lab=lab if kind is Kind.PREDICT or draw(st.booleans()) else None,
                follow_ups=draw(st.lists(IDS, max_size=3).map(tuple)),
                sources=draw(ITEMS),
                checks=draw(st.lists(st.builds(Check, st.just("2 * 3"), LINE), max_size=2).map(tuple)),
                as_of=draw(st.none() | st.dates(date(1000, 1, 1))),
            )
        )
    return Deck(
        id="deck",
        titles={lang: draw(LINE) for lang in langs},
        cards=tuple(cards),
        intros={lang: text for lang in langs if (text := draw(BODY))},
        position=draw(st.integers(0, 999)),
        builtin=False,
    )


@settings(max_examples=80, deadline=None)
@given(decks())
def test_parsing_what_was_rendered_gives_the_same_deck(deck: Deck) -> None:
    files = render(deck)
    read = parse_texts(files, {lang: Path(f"deck.{lang}.md") for lang in files})
    assert _without_places(read) == deck


def _without_places(deck: Deck) -> Deck:
    cards = [
        replace(card, texts={lang: replace(text, place=None) for lang, text in card.texts.items()})
        for card in deck.cards
    ]
    return replace(deck, cards=tuple(cards))
