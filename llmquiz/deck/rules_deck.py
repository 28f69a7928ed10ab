"""Rules about what a card refers to: topics, sources, follow-ups, labs, and other cards that ask the same."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from functools import lru_cache
from itertools import chain, islice
from math import ceil

from llmquiz.core.card import Card, Lang
from llmquiz.deck.context import Context, Problem
from llmquiz.deck.parse import place_of

MAX_FOLLOW_UPS = 3
SIMILAR = 0.8
_MAX_NAMED = 10  # unknown follow-ups that are named
_MAX_ALIKE = 500  # fronts with the same rare letters that one is compared with
_MAX_PAIRS = 200  # similar fronts that are reported
_MAX_GUESSES = 100  # names among which the meant one is looked for
_LINK = re.compile(r"https?://[^\s>)]+\.[^\s>)]+")
_NO_WORD = re.compile(r"[\W_]+")


def known_topic(card: Card, context: Context) -> Iterator[Problem]:
    """S09: the card belongs somewhere in the syllabus."""
    if context.topics and card.topic not in context.topics:
        yield Problem(f"unknown topic '{card.topic}'{_near(card.topic, context.topics)}; see decks/topics.toml")


def linked(card: Card, context: Context) -> Iterator[Problem]:
    """S09: a source that can be opened."""
    if not any(_LINK.search(source) for source in card.sources):
        yield Problem("no source with a link; add '- Author year, section, <https://…>' under Sources")


def follow_up_count(card: Card, context: Context) -> Iterator[Problem]:
    """S12: a conversation goes on, but not everywhere at once."""
    if not 1 <= len(card.follow_ups) <= MAX_FOLLOW_UPS:
        yield Problem(f"{len(card.follow_ups)} follow-ups; name one to {MAX_FOLLOW_UPS} cards under Follow-ups")


def follow_ups_exist(card: Card, context: Context) -> Iterator[Problem]:
    """S12: each follow-up is another card."""
    for follow_up, times in islice(Counter(card.follow_ups).items(), _MAX_NAMED):
        if follow_up == card.id:
            yield Problem("the card is its own follow-up; name another one")
        elif follow_up not in context.card_ids:
            hint = _near(follow_up, context.card_ids)
            yield Problem(f"unknown follow-up '{follow_up[:60]}'{hint}; write a card's id")
        if times > 1:
            yield Problem(f"follow-up '{follow_up[:60]}' is there {times} times; keep one")


def lab_exists(card: Card, context: Context) -> Iterator[Problem]:
    """L01: a card names a lab there is."""
    if card.lab and card.lab.lab not in context.labs:
        known = ", ".join(sorted(context.labs)) or "none"
        yield Problem(f"unknown lab '{card.lab.lab[:40]}'{_near(card.lab.lab, context.labs)}; labs are {known}")


def metric_exists(card: Card, context: Context) -> Iterator[Problem]:
    """L02: the lab of a predict card measures what the card asks for."""
    if not card.lab or card.lab.metric is None or (lab := context.labs.get(card.lab.lab)) is None:
        return
    if card.lab.metric not in lab.metrics:
        known = ", ".join(sorted(lab.metrics))
        yield Problem(f"lab '{card.lab.lab}' reports no metric '{card.lab.metric[:40]}'; it reports {known}")


def lab_params(card: Card, context: Context) -> Iterator[Problem]:
    """L03: the parameters fit the lab's manifest."""
    if card.lab and (lab := context.labs.get(card.lab.lab)) is not None:
        for problem in lab.check_params(card.lab.params):
            yield Problem(f"lab '{card.lab.lab}': {problem}")


def used_twice(cards: Sequence[Card]) -> Iterator[tuple[Card, Problem]]:
    """S09: an id belongs to one card."""
    owners: dict[str, Card] = {}
    for card in cards:
        if (owner := owners.setdefault(card.id, card)) is not card:
            yield card, Problem(f"card id '{card.id}' is also in {place_of(owner)}; give this one another id")


def similar_fronts(cards: Sequence[Card]) -> Iterator[tuple[Card, Problem]]:
    """S15: no two fronts of a language share over 80% of their letter triples."""
    for lang in Lang:
        asked = [(card, _triples(card.texts[lang].front)) for card in cards if lang in card.texts]
        for one, other, shared in islice(_close_pairs([triples for _, triples in asked]), _MAX_PAIRS):
            earlier, later = asked[one][0], asked[other][0]
            problem = f"front is {shared:.0%} the same as that of '{earlier.id}'; ask what sets the two apart"
            yield later, Problem(problem, lang)


def _triples(front: str) -> frozenset[str]:
    text = f"  {_NO_WORD.sub(' ', front.lower()).strip()} "
    return frozenset(text[index : index + 3] for index in range(len(text) - 2))


def _close_pairs(sets: Sequence[frozenset[str]]) -> Iterator[tuple[int, int, float]]:
    """Index pairs with a Jaccard similarity over `SIMILAR`.

    Two sets so alike have one of their rarest members in common (Chaudhuri, Ganti & Kaushik 2006, prefix filter): each
    is compared only with smaller ones that were found under the rarest of its own.
    """
    counts = Counter(chain.from_iterable(sets))
    holders: dict[str, list[int]] = {}
    for index in sorted(range(len(sets)), key=lambda index: len(sets[index])):
        members = sorted(sets[index], key=lambda member: (counts[member], member))
        rarest = members[: len(members) - ceil(SIMILAR * len(members)) + 1]
        for other in dict.fromkeys(chain.from_iterable(holders.get(it, ())[-_MAX_ALIKE:] for it in rarest)):
            shared = len(sets[index] & sets[other])
            together = len(sets[index]) + len(sets[other]) - shared
            if shared > SIMILAR * together:
                yield min(index, other), max(index, other), shared / together
        for member in rarest:
            holders.setdefault(member, []).append(index)


def _near(name: str, known: Iterable[str]) -> str:
    shapes = _by_shape(frozenset(known))
    sizes = range(max(len(name) - 3, 1), len(name) + 4)
    alike = islice(chain.from_iterable(shapes.get((name[:1], size), ()) for size in sizes), _MAX_GUESSES)
    near = get_close_matches(name, list(alike), n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""


@lru_cache(maxsize=4)
def _by_shape(names: frozenset[str]) -> dict[tuple[str, int], list[str]]:
    """Names by first letter and length, so that looking for the meant one does not read a hundred thousand."""
    shapes: dict[tuple[str, int], list[str]] = {}
    for name in sorted(names):
        shapes.setdefault((name[:1], len(name)), []).append(name)
    return shapes
