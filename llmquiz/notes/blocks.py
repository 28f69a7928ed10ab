"""Blocks of Markdown below one another, in lists and quotes: which prefix a line gets, and where a blank line stands.

Readers of Markdown stop at twenty levels and leave the rest out without a word, so that deeper lists and quotes do not
go in any further.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_LEVELS = 12


@dataclass(slots=True)
class _Level:
    kind: str  # "list", "item" or "quote"
    indent: str = ""
    marker: str = ""  # of an item that has no text yet
    bullet: str = ""
    number: int | None = None


class Blocks:
    """Takes blocks and the beginnings and ends of lists, items and quotes."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._stack: list[_Level] = []
        self._lowest = 0  # levels that have stayed open since the last block
        self._ended: tuple[int, str] | None = None  # the list that ended last, if nothing came after it
        self._too_deep = {"list": 0, "quote": 0}

    def add(self, block: str) -> None:
        """A block of one or more lines."""
        if not self._stack and not self._lowest:
            self._lines += ("", block) if self._lines else (block,)
            self._ended = None
            return
        first = "".join([level.marker or level.indent for level in self._stack])
        rest = "".join([level.indent for level in self._stack])
        if self._lines and not self._is_tight():
            self._lines.append("".join([level.indent for level in self._stack[: self._lowest]]).rstrip())
        for index, line in enumerate(block.split("\n")):
            self._lines.append(f"{rest if index else first}{line}".rstrip())
        for level in self._stack:
            level.marker = ""
        self._lowest = len(self._stack)
        self._ended = None

    def open_list(self, number: int | None) -> None:
        """A list begins; `number` is that of its first item, None for bullets."""
        if len(self._stack) + 2 > MAX_LEVELS:
            self._too_deep["list"] += 1
            return
        marks = ("-", "*") if number is None else (".", ")")
        bullet = marks[self._ended == (len(self._stack), marks[0])]
        self._stack.append(_Level("list", bullet=bullet, number=number))

    def close_list(self) -> None:
        """The innermost list ends, and all that is open inside it."""
        if self._too_deep["list"]:
            self._too_deep["list"] -= 1
        elif level := self._close("list"):
            self._ended = (len(self._stack), level.bullet)

    def open_item(self) -> bool:
        """An item of the innermost list begins; False if it lies too deep and is a line of its surroundings."""
        if self._too_deep["list"]:
            return False
        lists = [index for index, level in enumerate(self._stack) if level.kind == "list"]
        if not lists:
            self.open_list(None)
            if self._too_deep["list"]:
                return False
            lists = [len(self._stack) - 1]
        self._cut(lists[-1] + 1)
        level = self._stack[-1]
        marker = f"{level.bullet} "
        if level.number is not None:
            marker = f"{level.number}{level.bullet} "
            level.number = min(level.number + 1, 999_999_999)
        self._stack.append(_Level("item", " " * len(marker), marker))
        return True

    def close_item(self) -> None:
        """The item ends."""
        if not self._too_deep["list"]:
            self._close("item")

    def open_quote(self) -> None:
        """A quotation begins."""
        if len(self._stack) + 1 > MAX_LEVELS:
            self._too_deep["quote"] += 1
        else:
            self._stack.append(_Level("quote", "> "))

    def close_quote(self) -> None:
        """The quotation ends."""
        if self._too_deep["quote"]:
            self._too_deep["quote"] -= 1
        else:
            self._close("quote")

    def text(self) -> str:
        """All of it."""
        return "\n".join(self._lines)

    def _close(self, kind: str) -> _Level | None:
        for index in range(len(self._stack) - 1, -1, -1):
            if self._stack[index].kind == kind:
                level = self._stack[index]
                self._cut(index)
                return level
        return None

    def _cut(self, size: int) -> None:
        del self._stack[size:]
        self._lowest = min(self._lowest, size)

    def _is_tight(self) -> bool:
        """Whether the block stands right below the last one: the next item, or a list inside an item."""
        begun = next((index for index, level in enumerate(self._stack) if level.marker), None)
        if begun is None:
            return False
        if self._lowest >= begun:
            return True
        inside_item = self._lowest == begun - 1 and begun >= 2 and self._stack[begun - 2].kind == "item"
        return inside_item and self._stack[begun - 1].number in (None, 2)
