"""Checks decks against the card rubric. A rule is a small function; `RULES` names each with its id.

Decks that are shipped must keep every rule. In a user's own deck the rules about wording and completeness only warn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from llmquiz.core.card import Card, Deck
from llmquiz.deck import rules_deck, rules_formula, rules_number, rules_pair, rules_text, topics
from llmquiz.deck.context import Context, LabSpec, Problem
from llmquiz.deck.finding import Finding, Severity
from llmquiz.deck.library import Library
from llmquiz.deck.parse import place_of

__all__ = ["RULES", "LabSpec", "Rule", "lint", "lint_library"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the rubric: what it asks for, and the function that finds where it is not kept.

    Attributes:
        strict: an error in a user's deck too; otherwise a warning there.
        shipped_only: asked of shipped decks only; one's own notes need no bibliography.
    """

    id: str
    about: str
    find: Callable[[Card, Context], Iterable[Problem]]
    strict: bool = False
    shipped_only: bool = False


RULES = (
    Rule("S01", "one idea, one question mark, at most 25 words or 40 characters", rules_text.one_question),
    Rule("S02", "no 'list all', 'explain', 'describe'", rules_text.no_essay),
    Rule("S04", "a short answer of at most 40 words or 80 characters", rules_text.short_answer),
    Rule("S05", "3 to 6 key points of at most 25 words or 40 characters", rules_text.key_points),
    Rule("S06", "every check holds", rules_number.checks_hold, strict=True),
    Rule("S06", "every number with a unit is checked", rules_number.numbers_are_checked),
    Rule("S07", "every symbol of a formula is defined", rules_formula.symbols_are_defined),
    Rule("S09", "a topic of the syllabus", rules_deck.known_topic),
    Rule("S09", "a source with a link", rules_deck.linked, shipped_only=True),
    Rule("S10", "claims that age carry a date", rules_text.dated),
    Rule("S12", "one to three follow-ups", rules_deck.follow_up_count, shipped_only=True),
    Rule("S12", "follow-ups exist", rules_deck.follow_ups_exist, strict=True),
    Rule("S13", "four distinct options, mistakes named, the right one not the longest by far", rules_text.options),
    Rule("S14", "both languages have the same choices", rules_pair.same_choices, strict=True),
    Rule("S14", "both languages have the same numbers, symbols, code and key points", rules_pair.same_facts),
    Rule("L01", "the lab exists", rules_deck.lab_exists, strict=True),
    Rule("L02", "the lab reports the metric", rules_deck.metric_exists, strict=True),
    Rule("L03", "the lab takes the parameters", rules_deck.lab_params, strict=True),
    Rule("M01", "formulas are in the subset that a terminal can show", rules_formula.formulas_can_be_read, strict=True),
)


def lint(
    decks: Sequence[Deck],
    labs: Mapping[str, LabSpec],
    *,
    known_topics: Iterable[str] | None = None,
    today: date | None = None,
    others: Iterable[Deck] = (),
) -> list[Finding]:
    """Everything about `decks` that the rubric does not allow, by file and line.

    Args:
        labs: the labs there are, by name.
        known_topics: slugs; default: those of the syllabus.
        today: the day on which claims are judged to have aged; default: today.
        others: decks that are there too, whose cards may be named but are not checked.
    """
    context = Context(
        labs=labs,
        topics=frozenset(topics.load().topics if known_topics is None else known_topics),
        today=today or date.today(),
        card_ids=frozenset(card.id for deck in (*decks, *others) for card in deck.cards),
    )
    findings = [finding for deck in decks for card in deck.cards for finding in _card_findings(deck, card, context)]
    findings += _across(decks)
    return sorted(findings, key=_by_place)


def lint_library(
    library: Library, labs: Mapping[str, LabSpec], *, today: date | None = None, others: Iterable[Deck] = ()
) -> list[Finding]:
    """What reading the library's files and checking its decks found."""
    return sorted([*library.findings, *lint(library.decks(), labs, today=today, others=others)], key=_by_place)


def _card_findings(deck: Deck, card: Card, context: Context) -> Iterator[Finding]:
    for rule in RULES:
        if rule.shipped_only and not deck.builtin:
            continue
        severity = Severity.ERROR if deck.builtin or rule.strict else Severity.WARNING
        for problem in rule.find(card, context):
            line = " ".join(problem.text.split())  # what it quotes may have gone on over several
            yield Finding(place_of(card, problem.lang), rule.id, line, severity)


def _across(decks: Sequence[Deck]) -> Iterator[Finding]:
    builtin = {deck.id for deck in decks if deck.builtin}
    cards = [card for deck in decks for card in deck.cards]
    for card, problem in rules_deck.used_twice(cards):
        yield Finding(place_of(card, problem.lang), "S09", problem.text)
    for card, problem in rules_deck.similar_fronts(cards):
        severity = Severity.ERROR if card.deck in builtin else Severity.WARNING
        yield Finding(place_of(card, problem.lang), "S15", problem.text, severity)


def _by_place(finding: Finding) -> tuple[str, int, str, str]:
    return str(finding.place.path), finding.place.line, finding.rule, finding.problem
