"""Deletions of a cloze text as Obsidian's plugin has them: ``==hidden==``, or by a pattern that the user wrote.

A pattern is an example: ``==[123;;]answer[;;hint]==`` allows ``==1;;hidden;;a hint==``, what stands in brackets being
optional. Numbers group deletions into cards; in their place letters say for each card whether a deletion is asked for
(a), hidden (h) or shown (s). Nothing reaches beyond its line, nor starts in code or a formula.
https://stephenmwangi.com/obsidian-spaced-repetition/flashcards/cloze-cards/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from llmquiz.deck.inline import Part, segments
from llmquiz.exchange.faces import Face, Mark, bounded, one_by_one, unmarked, with_gaps

HIGHLIGHT, BOLD, CURLY = "==[123;;]answer[;;hint]==", "**[123;;]answer[;;hint]**", "{{[123;;]answer[;;hint]}}"
_TOKEN = re.compile(
    r"\\+(?P<escaped>[\[\]])|(?P<group>\[(?:\\+[\[\]]|[^\[\]])*\])|(?P<answer>answer)|(?P<plain>.)", re.DOTALL
)
_ORDER = re.compile(r"[0-9]{1,3}|[ahs]{1,200}")
_NUMBER = re.compile(r"[0-9]+")
_UNESCAPED = re.compile(r"\\+([\[\]])")
_MASK = "\x00"
_LONGEST_HINT = 300


class _Around(NamedTuple):
    """What stands before and after an order or a hint."""

    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Pattern:
    """How a deletion is written; `later` are the optional parts behind its end."""

    opening: str
    closing: str
    order: _Around | None
    hint: _Around | None
    later: tuple[str, ...] = ()


class _Found(NamedTuple):
    mark: Mark
    order: str


def pattern(written: str) -> Pattern | None:
    """The pattern that the user wrote; None if it has no answer between two marks."""
    marks, groups, side = ["", ""], dict[str, tuple[_Around, bool]](), 0
    closed = False
    for token in _TOKEN.finditer(written):
        if token["answer"]:
            side += 1
        elif token["group"] and (parsed := _group(token["group"][1:-1])):
            closed = side == 1 and bool(marks[1])
            groups[parsed[0]] = (parsed[1], closed)
        elif side < 2:
            marks[side] += token["escaped"] or token["group"] or token["plain"]
    if side != 1 or not all(marks):
        return None
    groups = {name: (around, after) for name, (around, after) in groups.items() if all(_needed(name, around, after))}
    order, hint = groups.get("order"), groups.get("hint")
    later = tuple(name for name, (_, after) in groups.items() if after)
    return Pattern(marks[0], marks[1], order and order[0], hint and hint[0], later)


def _needed(name: str, around: _Around, later: bool) -> Sequence[str]:
    """The marks without which the part could not be told from what is hidden."""
    if later:
        return around
    return [around.after if name == "order" else around.before]


def _group(inside: str) -> tuple[str, _Around] | None:
    for name, word in (("order", "123"), ("hint", "hint")):
        before, found, after = inside.partition(word)
        if found:
            return name, _Around(_UNESCAPED.sub(r"\1", before), _UNESCAPED.sub(r"\1", after))
    return None


def has_deletion(line: str, patterns: Sequence[Pattern]) -> bool:
    """Whether a line hides something."""
    return next(_all(line, patterns), None) is not None


def faces(text: str, patterns: Sequence[Pattern]) -> list[Face]:
    """A face for each card of a cloze text; none if it hides nothing.

    Raises:
        TooManyGapsError: if there are too many.
    """
    found = list(_all(text, patterns))
    clean, gaps = unmarked(text, [it.mark for it in found])
    return with_gaps(clean, gaps, _cards([it.order for it in found]))


def plain(text: str, patterns: Sequence[Pattern]) -> str:
    """`text` with nothing hidden."""
    return unmarked(text, [it.mark for it in _all(text, patterns)])[0]


def _cards(orders: Sequence[str]) -> list[str]:
    bounded(len(orders))
    numbers = sorted({int(order) for order in orders if _NUMBER.fullmatch(order)})
    if numbers:
        return [
            "".join("a" if order and order.isdigit() and int(order) == it else "s" for order in orders)
            for it in numbers
        ]
    if any(orders):
        count = max(map(len, orders))
        return ["".join(order[it : it + 1] or "s" for order in orders) for it in range(count)]
    return one_by_one(len(orders))


def _all(text: str, patterns: Sequence[Pattern]) -> Iterator[_Found]:
    if not any(it.opening in text for it in patterns):
        return
    masked = "".join(it.source if it.part is Part.TEXT else _mask(it.source) for it in segments(text))
    start = 0
    for line in masked.split("\n"):
        yield from _line(line, start, text, patterns)
        start += len(line) + 1


def _mask(source: str) -> str:
    return "".join("\n" if character == "\n" else _MASK for character in source)


def _line(line: str, start: int, text: str, patterns: Sequence[Pattern]) -> Iterator[_Found]:
    """The deletions of a line, which starts at `start` of `text`; code in it is masked."""
    nexts = [line.find(it.opening) for it in patterns]
    while (first := min((at for at in nexts if at >= 0), default=-1)) >= 0:
        chosen = nexts.index(first)
        found = _deletion(line, first, start, text, patterns[chosen])
        if found is None:  # nothing closes it, so nothing closes a later one
            nexts[chosen] = -1
            continue
        yield found
        position = found.mark.stop - start
        nexts = [
            line.find(it.opening, position) if 0 <= at < position else at
            for it, at in zip(patterns, nexts, strict=True)
        ]


def _deletion(line: str, at: int, start: int, text: str, how: Pattern) -> _Found | None:
    """The deletion that opens at `at` of its line, if it is closed."""
    first = at + len(how.opening)
    end = line.find(how.closing, first + 1)
    if end < 0:
        return None
    stop = end + len(how.closing)
    inside = text[start + first : start + end]
    order = hint = ""
    if how.order and "order" not in how.later:
        head, found, rest = inside.partition(how.order.after)
        if found and rest and _ORDER.fullmatch(head):
            order, inside = head, rest
    if how.hint and "hint" not in how.later:
        body, found, tail = inside.rpartition(how.hint.before)
        if found and body and tail:
            inside, hint = body, tail
    for name in how.later:
        around = how.order if name == "order" else how.hint
        value = _behind(line, stop, around) if around else ""
        if around and value and (name == "hint" or _ORDER.fullmatch(value)):
            stop += len(around.before) + len(value) + len(around.after)
            order, hint = (value, hint) if name == "order" else (order, value)
    return _Found(Mark(start + at, start + stop, inside, hint), order)


def _behind(line: str, at: int, around: _Around) -> str:
    """What stands between the marks of `around` right behind a deletion."""
    if not line.startswith(around.before, at):
        return ""
    first = at + len(around.before)
    end = line.find(around.after, first, first + _LONGEST_HINT)
    return line[first:end] if end > first else ""
