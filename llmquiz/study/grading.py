"""What an answer suggests as its rating. The learner always has the last word.

| kind | what is judged | Again | Hard | Good | Easy |
| --- | --- | --- | --- | --- | --- |
| open | key points ticked, k of n | less than half | at least half | all but one of 4 or more, or all | never |
| choice | the option picked | wrong | never | right | never |
| cloze | what was typed | differs | differs in at most one letter of five | equal | never |
| predict | the guess against the measured number | by the lab's own `within`, see `llmquiz.lab.predictions` | | | |

Easy is never suggested for recognition or ticking: it is a statement about effort, which only the learner can make.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from llmquiz.core.card import Card, Choice, Kind, Lang
from llmquiz.core.rating import Rating
from llmquiz.deck.cloze import deletions


@dataclass(frozen=True, slots=True)
class Picked:
    """An option of a choice card that was picked, and what it suggests."""

    choice: Choice
    rating: Rating

    @property
    def right(self) -> bool:
        """Whether the option is the right one."""
        return self.choice.right


def picked(card: Card, order: tuple[int, ...], number: int, lang: Lang) -> Picked:
    """The option shown as `number` (from 1) when the options are shown in `order`.

    Raises:
        ValueError: if the card has no option of that number.
    """
    if card.kind is not Kind.CHOICE or not 1 <= number <= len(order):
        raise ValueError(f"choice {number} is not one of 1-{len(order)}")
    choice = card.text(lang).choices[order[number - 1]]
    return Picked(choice, Rating.GOOD if choice.right else Rating.AGAIN)


def key_points_rating(ticked: int, total: int) -> Rating:
    """The rating that `ticked` of `total` named key points suggest.

    Raises:
        ValueError: if there are no points, or more are ticked than there are.
    """
    if not 0 <= ticked <= total or total == 0:
        raise ValueError(f"{ticked} of {total} key points cannot be ticked")
    missed = total - ticked
    if missed == 0 or (missed == 1 and total >= 4):
        return Rating.GOOD
    return Rating.HARD if 2 * ticked >= total else Rating.AGAIN


def guess(text: str) -> float:
    """The number that a learner typed for a predict card: above zero, ``3e9``, ``1,000`` and ``30%`` (0.3) too.

    Raises:
        ValueError: if it is not such a number.
    """
    bare = text.replace(",", "").replace("_", "").strip()
    number = float(bare.removesuffix("%")) / (100 if bare.endswith("%") else 1)
    if not 0 < number < float("inf"):
        raise ValueError(f"{text[:40]!r} is not a number above zero")
    return number


def hidden_words(card: Card, ordinal: int, lang: Lang) -> tuple[str, ...]:
    """What the deletions numbered `ordinal` of a cloze card hide, in reading order."""
    return tuple(it.text for it in deletions(card.text(lang).answer) if it.index == ordinal)


def typed_rating(typed: str, hidden: tuple[str, ...]) -> Rating:
    """The rating that a typed answer to a cloze card suggests; several deletions may be parted by commas or spaces."""
    given, wanted = normalised(typed), normalised(" ".join(hidden))
    if given == wanted:
        return Rating.GOOD
    allowed = len(wanted) // 5
    return Rating.HARD if allowed and _distance(given, wanted) <= allowed else Rating.AGAIN


def normalised(text: str) -> str:
    """`text` without case, width, accents, spaces, punctuation and the signs of Markdown and TeX."""
    wide = unicodedata.normalize("NFKD", text).casefold()
    return re.sub(r"[^\w.%+/^-]|_|\.(?!\d)", "", "".join(c for c in wide if not unicodedata.combining(c)))


def _distance(left: str, right: str) -> int:
    """Levenshtein's edit distance."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]
