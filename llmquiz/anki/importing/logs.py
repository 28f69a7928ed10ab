"""The log, card by card, read once from front to back.

Cards come in the order of their notes, answers in that of their cards: as a rule the same, for both are numbered as
they are made. A card that its note got later makes the exception; what comes before its turn waits, packed small.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter

from llmquiz.anki.archive.records import ReviewRow

_WIDTH = len(ReviewRow._fields)


class Logs:
    """The answers of each card, oldest first.

    Args:
        reviews: by card, and for each card oldest first.
        cards: the ids of all cards that will be asked for, sorted; the answers of others are passed over.
    """

    def __init__(self, reviews: Iterable[ReviewRow], cards: Sequence[int]) -> None:
        self.given = 0
        self._groups = groupby(reviews, key=attrgetter("card"))
        self._next = next(self._groups, None)
        self._waiting: dict[int, array[int]] = {}
        self._cards = cards

    def of(self, card: int) -> list[ReviewRow]:
        """The answers of `card`; ask once for each."""
        while self._next is not None and self._next[0] < card:
            self._set_aside(*self._next)
            self._next = next(self._groups, None)
        if self._next is not None and self._next[0] == card:
            rows = list(self._next[1])
            self._next = next(self._groups, None)
        else:
            packed = self._waiting.pop(card, ())
            rows = [ReviewRow(*packed[start : start + _WIDTH]) for start in range(0, len(packed), _WIDTH)]
        self.given += len(rows)
        return rows

    def _set_aside(self, card: int, rows: Iterator[ReviewRow]) -> None:
        place = bisect_left(self._cards, card)
        if place < len(self._cards) and self._cards[place] == card:
            self._waiting[card] = array("q", [number for row in rows for number in row])
