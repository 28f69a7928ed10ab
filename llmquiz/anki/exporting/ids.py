"""Ids for Anki that depend on nothing but ours, so that every export of a card names it alike.

Anki's ids are creation instants in ms, and one that lies ahead is refused; ours lie in seven weeks of early 2025.
"""

from __future__ import annotations

import hashlib

_FIRST = 1_735_689_600_000
_SPAN = 2**32


class Ids:
    """Hands out the ids of one table; whatever comes to a taken one gets the next free."""

    def __init__(self) -> None:
        self._taken: set[int] = set()

    def of(self, name: str) -> int:
        """The id of `name`. Ask once for each name, in a stable order."""
        offset = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % _SPAN
        while _FIRST + offset in self._taken:
            offset = (offset + 1) % _SPAN
        self._taken.add(_FIRST + offset)
        return _FIRST + offset

    def claim(self, wanted: int) -> int:
        """`wanted`, an id that Anki gave, unless another collection's note or card has it already."""
        while wanted in self._taken:
            wanted += 1
        self._taken.add(wanted)
        return wanted
