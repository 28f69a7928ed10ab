"""What can be told of a note's cards without rendering them: how long they may get, and that a front is not empty.

Each may err to one side alone: a card is never longer than `extent` says, and a front never empty that `surely_asks`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from llmquiz.notes.clozes import MAX_DEPTH, numbers
from llmquiz.notes.mustache import SPECIAL, Condition, Replacement, Template, Text, is_empty
from llmquiz.notes.sides import Sides
from llmquiz.notes.tags import DROPPED

_BESIDE = 3  # times that a card may hold all fields beside its sides: in place of an empty one, or behind hints
_PROMPT = 500  # what a filter says in words, or the name of a template or note type takes
_ESCAPED = 5  # characters of an ampersand that is written for HTML
_GROWTH = {"cloze": 2, "cloze-only": MAX_DEPTH + 1, "type": MAX_DEPTH + 1}  # a deletion again in each around it

# Tags that leave no doubt: a value in quotes that holds no angle brackets ends where any reader ends it.
_QUIET = r"(?:[^<>=\"']++|=\s*+(?:\"[^\"<>]*+\"|'[^'<>]*+'|(?![\"'])))*+"
_TAG = rf"<(?!(?:{DROPPED}|(?i:table|t[dhr]|img|anki)))/?[A-Za-z][^\s/<>]*+{_QUIET}>"
# A deletion that shows its first letter or, hidden, a hint which is not the beginning of a formula or a sound.
_INNER = r"\{\{c[0-9]{1,3}::[^{}:]*+\}\}"
_LETTERS = rf"[^\W_](?:[^{{}}:]++|{_INNER})*+(?:::(?!(?i:latex))[^\W_][^{{}}:]*+)?"
_DELETION = rf"\{{\{{c[0-9]{{1,3}}::(?:{_LETTERS}|image-occlusion:[^{{}}:][^{{}}]*+)\}}\}}"
_PICTURE = r"<img src=\"[^\W_][\w ,()-]*+[.\w]*+\"\s?/?>"
# Signs that begin no tag, entity, deletion or formula.
_SIGN = r"[!-%'-;=-Z\]-z|}~\u00a1-\u00ac\u2010-\u2027\u2030-\u205e\u3001-\u3020\uff01-\uff5e\U0001f000-\U0001faff]"
_BEGINNING = re.compile(
    rf"(?:\s|&nbsp;|{_TAG})*+(?P<shown>[^\W_]|{_SIGN}|\[sound:[^\W_]|\\[(\[][^\W_]|{_DELETION}|{_PICTURE})?"
)


def extent(sides: Iterable[Sides]) -> tuple[int, int]:
    """The most that a card takes: characters of its own, and how many times those of all fields, tags and deck."""
    fixed, times = 0, _BESIDE
    for it in sides:
        both = [_extent(template) for template in (it.front, it.above, it.back) if template is not None]
        fixed = max(fixed, sum(own for own, _ in both))
        times = max(times, sum(many for _, many in both) + _BESIDE)
    return fixed, times


class Lead(NamedTuple):
    """What the front of every card of a template begins with.

    Attributes:
        place: index of a field; None for words of the template's own.
        hides: whether the field is shown only on the cards whose number a deletion of it has.
    """

    place: int | None
    hides: bool = False

    def surely_asks(self, fields: Sequence[str], number: int) -> bool:
        """As `surely_asks`, of a note with these fields."""
        if self.place is None:
            return True
        first = fields[self.place]
        return surely_shows(first) and (not self.hides or number in numbers(first))


def lead(front: Template, fields: Sequence[str]) -> Lead | None:
    """What comes first and may show something; None if that depends on the note."""
    for step in front.steps:
        if isinstance(step, Text):
            shows = _text_shows(step.html)
            if shows is None:
                return None
            if shows:
                return Lead(None)
        elif isinstance(step, Replacement) and step.filters in ((), ("cloze",)) and step.name in fields:
            return Lead(max(place for place, name in enumerate(fields) if name == step.name), bool(step.filters))
        else:
            return None
    return None


def surely_asks(front: Template, values: Mapping[str, str], number: int) -> bool:
    """Whether the front of card `number` is not empty; False where only its Markdown would tell.

    Args:
        values: neutral HTML of the fields by name.
    """
    position, steps = 0, front.steps
    while position < len(steps):
        step = steps[position]
        position += 1
        if isinstance(step, Text):
            shows = _text_shows(step.html)
            if shows is not False:
                return shows is True
            continue
        value = values.get(step.name)
        if value is None:
            return False
        if isinstance(step, Condition):
            if is_empty(value) != step.negated:
                position = step.end
        elif value:
            is_known = not step.filters or (step.filters == ("cloze",) and number in numbers(value))
            return is_known and surely_shows(value)
    return False


def surely_shows(html: str) -> bool:
    """Whether the Markdown of neutral HTML is not empty, deletions hidden or not; False if its beginning won't tell."""
    return html[:1].isalnum() or _begun(html)["shown"] is not None


@lru_cache(maxsize=1024)
def _text_shows(html: str) -> bool | None:
    """Whether a piece of a template shows something; None if that depends on what comes after it."""
    begun = _begun(html)
    if begun["shown"] is not None:
        return True
    return False if begun.end() == len(html) else None


def _begun(html: str) -> re.Match[str]:
    found = _BEGINNING.match(html)
    assert found is not None  # it may be empty
    return found


def _extent(template: Template) -> tuple[int, int]:
    fixed = times = 0
    for step in template.steps:
        if isinstance(step, Text):
            fixed += len(step.html)
        elif not isinstance(step, Condition):
            growth = _ESCAPED if step.name in SPECIAL else 1
            for name in step.filters:
                growth *= _GROWTH.get(name, 1)
            fixed += _PROMPT * growth + len(step.name)
            times += growth
    return fixed, times
