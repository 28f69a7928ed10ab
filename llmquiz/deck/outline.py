"""The headings of a deck file and the lines below each; a `#` inside fenced code is code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_HEADING = re.compile(r"(#{1,3})(?:[ \t]+(.*))?$")
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})(.*)$")


class Fence:
    """Follows a text line by line and knows which lines are fenced code (the fences themselves included)."""

    def __init__(self) -> None:
        self.mark: str | None = None  # what closes the open fence
        self.line = 0  # where it was opened

    def holds(self, line: str, number: int = 0) -> bool:
        """Whether `line`, the next one of the text, belongs to fenced code."""
        match = _FENCE.match(line)
        if self.mark is None:
            if match is None or (match[1][0] == "`" and "`" in match[2]):
                return False
            self.mark, self.line = match[1], number
            return True
        if match and match[1].startswith(self.mark) and not match[2].strip():
            self.mark = None
        return True


@dataclass(slots=True)
class Block:
    """A heading of level 1 to 3 (level 0: what stands before the first one) and its lines, down to the next heading."""

    level: int
    heading: str
    line: int
    lines: list[str] = field(default_factory=list)

    def numbered(self) -> Iterator[tuple[int, str]]:
        """The lines with their numbers in the file."""
        return enumerate(self.lines, start=self.line + 1)


def outline(text: str) -> tuple[list[Block], int | None]:
    """All blocks of `text`, and the line of a fence that is never closed."""
    blocks = [Block(0, "", 0)]
    fence = Fence()
    for number, line in enumerate(text.split("\n"), start=1):
        if not fence.holds(line, number) and (match := _HEADING.match(line)):
            blocks.append(Block(len(match[1]), (match[2] or "").strip(), number))
        else:
            blocks[-1].lines.append(line)
    return blocks, (fence.line if fence.mark else None)


def first_paragraph(lines: list[str]) -> tuple[str, str]:
    """The lines up to the first blank one outside code, and the rest; both without blank lines around them."""
    lines = _trimmed(lines)
    fence = Fence()
    for index, line in enumerate(lines):
        if not fence.holds(line) and not line.strip():
            return "\n".join(lines[:index]), "\n".join(_trimmed(lines[index:]))
    return "\n".join(lines), ""


def joined(lines: list[str]) -> str:
    """The lines as one text without blank lines around it."""
    return "\n".join(_trimmed(lines))


def _trimmed(lines: list[str]) -> list[str]:
    start, stop = 0, len(lines)
    while start < stop and not lines[start].strip():
        start += 1
    while stop > start and not lines[stop - 1].strip():
        stop -= 1
    return lines[start:stop]
