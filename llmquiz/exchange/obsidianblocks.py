"""The cards in the lines of a note, as Obsidian's spaced-repetition plugin cuts them out.

A text ends at an empty line. A line with ``::`` is a card by itself, wherever it stands: even within the answer of
another card, which is then lost. This is how the plugin has it, and its schedules count on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from llmquiz.deck.outline import Fence
from llmquiz.exchange import clozemarks
from llmquiz.exchange.vault import Plugin

CALLOUT = "> [!sr|card-metadata]"
_SCHEDULE, _COMMENT = "<!--SR:", "<!--"


class Kind(Enum):
    """How question and answer are parted."""

    INLINE = "inline"
    INLINE_BOTH = "inline, both ways"
    BELOW = "below"
    BELOW_BOTH = "below, both ways"
    CLOZE = "cloze"


@dataclass(slots=True)
class Block:
    """The lines of a card, from `first` on, counted from 0."""

    kind: Kind
    first: int
    lines: list[str]


def blocks(lines: Sequence[str], plugin: Plugin, start: int = 0) -> Iterator[Block]:
    """The cards in the lines of a note, from line `start` on."""
    kind: Kind | None = None
    pending: list[str] = []
    first = at = start
    while at < len(lines):
        line, bare = lines[at], lines[at].strip()
        if line.startswith(_COMMENT) and not line.startswith(_SCHEDULE):
            at = _after(lines, at, "-->")
            continue
        if bare == plugin.end or not (bare or kind):
            if kind:
                yield Block(kind, first, pending)
            kind, pending = None, []
            at += 1
            continue
        if not pending:
            first = at
        pending.append(line.rstrip())
        if found := _inline_kind(line, plugin):
            stop = _after_schedule(lines, at + 1)
            yield Block(found, at, list(lines[at:stop]))
            kind, pending, at = None, [], stop
            continue
        if bare and bare in (plugin.below, plugin.below_both) and len(pending) > 1:
            kind = Kind.BELOW if bare == plugin.below else Kind.BELOW_BOTH
        elif line.startswith(("```", "~~~")):
            stop = _after_fence(lines, at)
            pending += lines[at + 1 : stop]
            at = stop - 1
        elif kind is None and clozemarks.has_deletion(line, plugin.patterns):
            kind = Kind.CLOZE
        at += 1
    if kind:
        yield Block(kind, first, pending)


def _after(lines: Sequence[str], at: int, mark: str) -> int:
    """The number of the line after the first one from `at` on that holds `mark`."""
    return next((number + 1 for number in range(at, len(lines)) if mark in lines[number]), len(lines))


def _after_fence(lines: Sequence[str], at: int) -> int:
    fence = Fence()
    for number in range(at, len(lines)):
        held = fence.holds(lines[number])
        if not held or fence.mark is None:
            return number + 1
    return len(lines)


def _after_schedule(lines: Sequence[str], at: int) -> int:
    """The line after the schedule that may start at `at`."""
    if at < len(lines) and lines[at].startswith(_SCHEDULE):
        return at + 1
    if at < len(lines) and lines[at].startswith(CALLOUT):
        at += 1
        while at < len(lines) and lines[at].startswith(">"):
            at += 1
    return at


def _inline_kind(line: str, plugin: Plugin) -> Kind | None:
    marks = ((plugin.inline, Kind.INLINE), (plugin.both, Kind.INLINE_BOTH))
    for mark, kind in sorted(marks, key=lambda it: -len(it[0])):
        if mark and place(line, mark) >= 0:
            return kind
    return None


def place(line: str, mark: str) -> int:
    """Where `mark` first stands outside of code, -1 if nowhere."""
    if mark not in line:
        return -1
    edges = [at for at, character in enumerate(line) if character == "`"]
    spans = list(zip(edges[::2], edges[1::2], strict=False))
    position = line.find(mark)
    for start, stop in spans:
        if position < start:
            break
        if position < stop:
            position = line.find(mark, stop)
    return position
