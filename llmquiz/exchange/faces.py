"""The faces of a card: question and answer, both ways, or a text with gaps of which each is asked once.

Programs that show a line break where the file has one mean a break; Markdown means a space.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from llmquiz.deck.inline import Part, segments
from llmquiz.deck.outline import Fence

Face = tuple[str, str]
MOST_GAPS = 200
_MOST_CHARACTERS = 1 << 23


class TooManyGapsError(ValueError):
    """A text would make so many faces, or such long ones, that it can be no card."""


class Mark(NamedTuple):
    """The notation of a gap, ``source[start:stop]``, and the text that it hides."""

    start: int
    stop: int
    text: str
    hint: str = ""


class Gap(NamedTuple):
    """A stretch of a text that is asked for: ``text[start:stop]``."""

    start: int
    stop: int
    hint: str = ""


def unmarked(source: str, marks: Sequence[Mark]) -> tuple[str, list[Gap]]:
    """`source` with nothing hidden, and where its gaps are then; `marks` in order, none inside of another."""
    pieces: list[str] = []
    gaps: list[Gap] = []
    position = length = 0
    for mark in marks:
        pieces += [source[position : mark.start], mark.text]
        length += mark.start - position
        gaps.append(Gap(length, length + len(mark.text), mark.hint))
        length += len(mark.text)
        position = mark.stop
    return "".join([*pieces, source[position:]]), gaps


def bounded(count: int) -> int:
    """`count`, if a text may have so many gaps: the letters that say what cards do with them grow with its square.

    Raises:
        TooManyGapsError: if it may not.
    """
    if count > MOST_GAPS:
        raise TooManyGapsError(f"{count:,} gaps in one text, more than {MOST_GAPS}; make several cards of it")
    return count


def one_by_one(count: int) -> list[str]:
    """A card for each of `count` gaps, see `with_gaps`.

    Raises:
        TooManyGapsError: as `bounded`.
    """
    bounded(count)
    return ["s" * number + "a" + "s" * (count - number - 1) for number in range(count)]


def with_gaps(text: str, gaps: Sequence[Gap], cards: Sequence[str]) -> list[Face]:
    """A face for each of `cards`.

    Args:
        gaps: in order, none inside of another.
        cards: for each gap a letter: ``a``, ask for it; ``h``, hide it on both sides; ``s``, show it.

    Raises:
        TooManyGapsError: if the faces would be huge.
    """
    if 2 * len(text) * len(cards) > _MOST_CHARACTERS:
        raise TooManyGapsError(f"{len(gaps)} gaps in a text of {len(text):,} characters; make several cards of it")
    marked = _outside_code(text, gaps)
    made: list[Face] = []
    for card in cards:
        each = list(zip(gaps, card, marked, strict=True))
        asked = [_blank(gap, free) if does in "ah" else None for gap, does, free in each]
        answered = [_answer(text, gap, does, free) for gap, does, free in each]
        made.append((_filled(text, gaps, asked), _filled(text, gaps, answered)))
    return made


def _filled(text: str, gaps: Sequence[Gap], fillings: Sequence[str | None]) -> str:
    pieces, position = [], 0
    for gap, filling in zip(gaps, fillings, strict=True):
        pieces += [text[position : gap.start], text[gap.start : gap.stop] if filling is None else filling]
        position = gap.stop
    return "".join([*pieces, text[position:]])


def _blank(gap: Gap, free: bool) -> str:
    return rf"\[{gap.hint or '...'}\]" if free else f"[{gap.hint or '...'}]"


def _answer(text: str, gap: Gap, does: str, free: bool) -> str | None:
    if does == "h":
        return _blank(gap, free)
    return f"**{text[gap.start : gap.stop]}**" if does == "a" and free and _takes_bold(text, gap) else None


def _takes_bold(text: str, gap: Gap) -> bool:
    """Whether Markdown would read asterisks around the gap as bold: none may part a letter from a sign inside."""
    inside = text[gap.start : gap.stop]
    if not inside or inside != inside.strip() or "\n" in inside or "*" in inside:
        return False
    before, after = text[max(gap.start - 1, 0) : gap.start], text[gap.stop : gap.stop + 1]
    return (inside[0].isalnum() or not before.isalnum()) and (inside[-1].isalnum() or not after.isalnum())


def _outside_code(text: str, gaps: Sequence[Gap]) -> list[bool]:
    """For each gap whether it lies outside of code and formulas, or holds them whole."""
    starts, parts, position = [], [], 0
    for segment in segments(text):
        starts.append(position)
        parts.append(segment.part)
        position += len(segment.source)
    free = []
    for gap in gaps:
        at = max(bisect_right(starts, gap.start) - 1, 0)
        free.append(not parts or parts[at] is Part.TEXT or starts[at] == gap.start)
    return free


def hard_breaks(text: str) -> str:
    """`text` with every line break outside of code as one that Markdown shows: two spaces before it."""
    if "\n" not in text:
        return text
    lines, fence = text.split("\n"), Fence()
    code = [fence.holds(line) for line in lines]
    return "\n".join(
        f"{line.rstrip()}  " if line.strip() and following.strip() and not held else line
        for line, following, held in zip(lines, [*lines[1:], ""], code, strict=True)
    )


def dollars(text: str, *, display: bool = True) -> str:
    r"""`text` with formulas between ``\(…\)`` and ``\[…\]`` between dollars, as everywhere here; not in code.

    Args:
        display: also those in brackets, with which `with_gaps` marks what is hidden, too.
    """
    if "\\(" not in text and "\\[" not in text:
        return text
    marks = (("\\(", "\\)", "$"), ("\\[", "\\]", "$$"))[: 1 + display]
    return "".join(_dollars(it.source, *marks) if it.part is Part.TEXT else it.source for it in segments(text))


def _dollars(text: str, *marks: tuple[str, str, str]) -> str:
    for opening, closing, sign in marks:
        pieces, position = [], 0
        while (start := text.find(opening, position)) >= 0 and (stop := text.find(closing, start + 2)) >= 0:
            inside = text[start + 2 : stop].strip()
            formula = f"{sign}{inside}{sign}" if inside else text[start : stop + 2]
            pieces += [text[position:start], formula]
            position = stop + 2
        text = "".join([*pieces, text[position:]])
    return text
