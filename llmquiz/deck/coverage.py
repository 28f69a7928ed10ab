"""Which topics of the syllabus have cards: an open question to answer aloud, and an atomic card that makes it stick."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from llmquiz.core.card import Card, Kind
from llmquiz.deck.topics import Syllabus, Topic


@dataclass(frozen=True, slots=True)
class Coverage:
    """The cards of one topic: `open` questions, and `atomic` cards of all other kinds."""

    slug: str
    topic: Topic
    open: int
    atomic: int

    @property
    def covered(self) -> bool:
        return self.open > 0 and self.atomic > 0

    @property
    def lacks(self) -> tuple[str, ...]:
        """What is missing: nothing, an open card, an atomic card, or both."""
        return tuple(name for name, count in (("open", self.open), ("atomic", self.atomic)) if count == 0)


def coverage(syllabus: Syllabus, cards: Iterable[Card]) -> list[Coverage]:
    """Of every topic, in the order of the syllabus."""
    counts = Counter((card.topic, card.kind is Kind.OPEN) for card in cards)
    return [Coverage(slug, topic, counts[slug, True], counts[slug, False]) for slug, topic in syllabus.topics.items()]


def by_area(found: Iterable[Coverage]) -> Iterator[tuple[str, list[Coverage]]]:
    """Areas with their topics, in the order of the syllabus."""
    areas: dict[str, list[Coverage]] = {}
    for one in found:
        areas.setdefault(one.topic.area, []).append(one)
    yield from areas.items()
