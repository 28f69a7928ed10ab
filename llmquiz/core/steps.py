"""Learning steps: the short delays of a card that is learned or relearned, counted down by the steps that remain."""

from __future__ import annotations

from dataclasses import dataclass

from llmquiz.core.fuzz import half_up
from llmquiz.core.options import DAY_SECONDS


@dataclass(frozen=True, slots=True)
class Steps:
    """The delays in seconds, and what each answer makes of `left`, the steps that remain.

    A delay of None means that there is no such step: FSRS decides.
    """

    seconds: tuple[int, ...]

    @property
    def again(self) -> int | None:
        return self.seconds[0] if self.seconds else None

    def hard(self, left: int) -> int | None:
        """The step once more; on the first one a bit longer than again, yet shorter than good."""
        if not self.seconds:
            return None
        index = self._index(left)
        return self._hard_on_first() if index == 0 else self.seconds[index]

    def good(self, left: int) -> int | None:
        """The step after this one; None past the last."""
        index = self._index(left) + 1
        return self.seconds[index] if index < len(self.seconds) else None

    def left_after_good(self, left: int) -> int:
        return max(len(self.seconds) - self._index(left) - 1, 0)

    def _index(self, left: int) -> int:
        total = len(self.seconds)
        return min(max(total - left, 0), max(total - 1, 0))

    def _hard_on_first(self) -> int:
        first = self.seconds[0]
        if len(self.seconds) > 1:
            return _whole_days((first + self.seconds[1]) // 2)
        return _whole_days(min(first * 3 // 2, first + DAY_SECONDS))


def _whole_days(seconds: int) -> int:
    """Delays above a day become whole days, so that morning and evening give the same."""
    return half_up(seconds / DAY_SECONDS) * DAY_SECONDS if seconds > DAY_SECONDS else seconds
