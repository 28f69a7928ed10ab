"""Where Markdown holds code and where it holds formulas; every other room that looks inside card text asks here.

Dollar signs follow Pandoc: the opening one has no space after it, the closing one no space before it and no digit
after it, so that ``$5 and $6`` is money. A backslash makes a dollar sign a dollar sign. Neither a code span nor a
formula reaches past the end of its paragraph.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from llmquiz.deck.outline import Fence


class Part(Enum):
    """What a stretch of Markdown is."""

    TEXT = "text"
    CODE = "code"  # a code span, with its backticks
    FENCE = "fence"  # a fenced block, with its fences
    MATH = "math"  # the TeX of an inline formula
    DISPLAY = "display"  # the TeX of a formula of its own


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of Markdown. `source` is all of it; `text` is the TeX of a formula, without its dollar signs."""

    part: Part
    text: str
    source: str


_MARK = re.compile(r"\\.|`+|\$\$|\$", re.DOTALL)


def segments(markdown: str) -> Iterator[Segment]:
    """The parts of `markdown`, in order; their sources joined give it back. Linear in its length."""
    paragraph: list[str] = []
    code: list[str] = []
    fence = Fence()
    for line in markdown.splitlines(keepends=True):
        if fence.holds(line.rstrip("\n")):
            yield from _paragraph("".join(paragraph))
            paragraph = []
            code.append(line)
            if fence.mark is None:
                yield _same(Part.FENCE, "".join(code))
                code = []
        else:
            paragraph.append(line)
            if not line.strip():
                yield from _paragraph("".join(paragraph))
                paragraph = []
    yield from _paragraph("".join(paragraph))
    if code:
        yield _same(Part.FENCE, "".join(code))


def formulas(markdown: str) -> list[str]:
    """The TeX of every formula."""
    return [it.text for it in segments(markdown) if it.part in (Part.MATH, Part.DISPLAY)]


def code_blocks(markdown: str) -> list[str]:
    """Every fenced block, with its fences."""
    return [it.text for it in segments(markdown) if it.part is Part.FENCE]


def prose(markdown: str, *, formula: str = " ", code: str = " ") -> str:
    """`markdown` with each formula and each piece of code replaced."""
    stand_in = {Part.MATH: formula, Part.DISPLAY: formula, Part.CODE: code, Part.FENCE: code}
    return "".join(stand_in.get(it.part, it.text) for it in segments(markdown))


def _same(part: Part, text: str) -> Segment:
    return Segment(part, text, text)


def _paragraph(text: str) -> Iterator[Segment]:
    marks = [(match.start(), match[0]) for match in _MARK.finditer(text)]
    runs: dict[str, list[int]] = {}
    for start, mark in marks:
        if mark[0] != "\\":
            runs.setdefault(mark, []).append(start)
    position = 0
    for start, mark in marks:
        if start < position or mark[0] == "\\":
            continue
        stop = _end(text, start, mark, runs)
        if stop is None:
            continue
        if start > position:
            yield _same(Part.TEXT, text[position:start])
        source = text[start:stop]
        if mark[0] == "`":
            yield _same(Part.CODE, source)
        else:
            yield Segment(Part.DISPLAY if mark == "$$" else Part.MATH, source[len(mark) : -len(mark)], source)
        position = stop
    if position < len(text):
        yield _same(Part.TEXT, text[position:])


def _end(text: str, start: int, mark: str, runs: dict[str, list[int]]) -> int | None:
    """Where the code or formula that `mark` opens at `start` stops, or None if it opens nothing."""
    inside = start + len(mark)
    if mark == "$" and (inside >= len(text) or text[inside].isspace()):
        return None
    places = runs[mark]
    after = bisect_right(places, start)
    if after == len(places):
        return None
    close = places[after]
    if mark == "$" and (text[close - 1].isspace() or text[close + 1 : close + 2].isdigit()):
        return None
    if mark == "$$" and not text[inside:close].strip():
        return None
    return close + len(mark)
