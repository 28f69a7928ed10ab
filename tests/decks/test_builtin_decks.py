"""The shipped decks keep every rule: they lint clean, their numbers hold, their formulas can be shown."""

from __future__ import annotations

from collections import Counter

import pytest

from llmquiz import locations
from llmquiz.core.card import Card, Kind, Lang
from llmquiz.deck import checks, plain, topics
from llmquiz.deck.cloze import hide, reveal
from llmquiz.deck.finding import errors
from llmquiz.deck.inline import formulas
from llmquiz.deck.library import Folder, Library
from llmquiz.deck.lint import lint_library
from llmquiz.deck.math import render_markdown, to_unicode
from llmquiz.deck.rules_formula import everything
from llmquiz.lab.catalog import Catalog

LIBRARY = Library([Folder(locations.shipped("decks"), builtin=True)])
CARDS = [card for deck in LIBRARY.decks() for card in deck.cards]
TEXTS = [pytest.param(card, lang, id=f"{card.id}-{lang}") for card in CARDS for lang in card.texts]


def test_lint_finds_nothing() -> None:
    found = errors(lint_library(LIBRARY, Catalog().manifests()))
    assert not found, "\n".join(map(str, found))


def test_every_file_belongs_to_a_deck_that_can_be_read() -> None:
    assert not LIBRARY.broken
    assert len(LIBRARY.files()) == 2 * len(LIBRARY.decks())


@pytest.mark.parametrize("card", [pytest.param(card, id=card.id) for card in CARDS if card.checks])
def test_every_number_is_what_its_expression_yields(card: Card) -> None:
    assert [problem for check in card.checks if (problem := checks.evaluate(check))] == []


@pytest.mark.parametrize(("card", "lang"), TEXTS)
def test_every_formula_can_be_shown(card: Card, lang: Lang) -> None:
    markdown = everything(card.texts[lang])
    for formula in formulas(markdown):
        assert to_unicode(formula)
    assert formulas(render_markdown(markdown)) == []
    assert plain.card(card, lang, 60)


@pytest.mark.parametrize("card", [pytest.param(card, id=card.id) for card in CARDS if card.kind is Kind.CLOZE])
def test_every_deletion_hides_something_in_both_languages(card: Card) -> None:
    for text in card.texts.values():
        for ordinal in card.ordinals:
            assert hide(text.answer, ordinal) != reveal(text.answer, ordinal)


def test_the_syllabus_has_a_name_for_every_topic() -> None:
    syllabus = topics.load()
    known = syllabus.topics
    assert sum(not topic.beyond for topic in known.values()) == 169
    assert {card.topic for card in CARDS} <= known.keys()
    assert {topic.area for topic in known.values()} == syllabus.areas.keys()
    for lang in Lang:
        for names in (syllabus.areas.values(), [topic.names for topic in known.values()]):
            times = Counter(name[lang] for name in names)
            assert all(name.strip() for name in times)
            assert set(times.values()) == {1}
