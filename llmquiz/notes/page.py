"""The structure of a field while its HTML is read: lists, quotations, headings and tables around its running text.

Whatever is left open is closed by what comes next, or at the end; inside a table's cell, structure is lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from llmquiz.notes.blocks import Blocks
from llmquiz.notes.flow import one_line, paragraphs
from llmquiz.notes.marks import LINE, STRONG, STRONG_END
from llmquiz.notes.tables import Table
from llmquiz.notes.tags import attributes

_CLOSING_HASHES = re.compile(r"\s#++\Z")


class Page:
    """One field on its way. `_flow` is the running text since the last block, `_atoms` what its atoms stand for."""

    def __init__(self) -> None:
        self._blocks = Blocks()
        self._flow: list[str] = []
        self._atoms: list[str] = []
        self._heading = 0
        self._table: Table | None = None
        self._cell = False  # whether a cell of it is open

    def _flush(self) -> None:
        """The running text becomes paragraphs, or the heading that is open."""
        if not self._flow:
            return
        text = "".join(self._flow)
        self._flow.clear()
        if not text or text.isspace():
            return
        if self._heading:
            line = one_line(text, self._atoms, " ")
            if line:
                line = f"{line[:-1]}\\#" if _CLOSING_HASHES.search(line) else line
                self._blocks.add(f"{'#' * self._heading} {line}")
            return
        done, still_open = paragraphs(text, self._atoms)
        for it in done:
            self._blocks.add(it)
        self._flow += still_open

    def _step(self, step: Callable[[], object]) -> None:
        """End the running text and take a step in the blocks; in a cell, begin a line."""
        if self._cell:
            self._flow.append(LINE)
        else:
            self._flush()
            step()

    def _bullets(self, source: str) -> None:
        self._step(lambda: self._blocks.open_list(None))

    def _numbers(self, source: str) -> None:
        start = attributes(source).get("start", "1") if source else "1"
        number = int(start) if start.isascii() and start.isdigit() and len(start) <= 9 else 1
        self._step(lambda: self._blocks.open_list(number))

    def _end_list(self, source: str) -> None:
        self._step(self._blocks.close_list)

    def _item(self, source: str) -> None:
        if not self._cell:
            self._flush()
        if self._cell or not self._blocks.open_item():
            self._flow.append(f"{LINE}• ")

    def _end_item(self, source: str) -> None:
        self._step(self._blocks.close_item)

    def _quote(self, source: str) -> None:
        self._step(self._blocks.open_quote)

    def _end_quote(self, source: str) -> None:
        self._step(self._blocks.close_quote)

    def _rule(self, source: str) -> None:
        self._step(lambda: self._blocks.add("---"))

    def _head(self, level: int) -> None:
        if self._cell:
            self._flow += (LINE, STRONG)
        else:
            self._flush()
            self._heading = level

    def _end_head(self, source: str) -> None:
        if self._cell:
            self._flow += (STRONG_END, LINE)
        else:
            self._flush()
            self._heading = 0

    # Tables are written where they end.

    def _open_table(self, source: str) -> None:
        if self._table is not None:
            self._table.inner += 1
            self._flow.append(LINE)
        else:
            self._flush()
            self._table = Table()

    def _row(self, source: str) -> None:
        if self._table is None or self._table.inner:
            self._flow.append(LINE)
        else:
            self._end_cell()
            self._flush()
            self._table.open_row()

    def _open_cell(self, source: str, *, is_head: bool = False) -> None:
        if self._table is None or self._table.inner:
            self._flow.append(LINE)
            return
        self._end_cell()
        self._flush()
        self._table.open_cell(is_head=is_head, is_gutter="linenos" in source or "gutter" in source)
        self._cell = True

    def _head_cell(self, source: str) -> None:
        self._open_cell(source, is_head=True)

    def _end_cell(self, source: str = "") -> None:
        if self._cell and self._table is not None and not self._table.inner:
            self._cell = False
            self._table.add(one_line("".join(self._flow), self._atoms, " / ", cell=True))
            self._flow.clear()

    def _close_table(self, source: str) -> None:
        if self._table is not None and self._table.inner:
            self._table.inner -= 1
            self._flow.append(LINE)
        else:
            self._end_table()

    def _end_table(self) -> None:
        if self._table is not None:
            self._table.inner = 0
            self._end_cell()
            for block in self._table.blocks():
                self._blocks.add(block)
            self._table = None


def _heading(level: int) -> Callable[[Page, str], None]:
    """Levels 1 to 3 are those of a deck file, so that a heading inside a card begins at 4."""
    return lambda page, source: page._head(min(level + 3, 6))


STRUCTURE: dict[str, Callable[[Page, str], None]] = {
    "ul": Page._bullets,
    "ol": Page._numbers,
    "/ul": Page._end_list,
    "/ol": Page._end_list,
    "li": Page._item,
    "/li": Page._end_item,
    "blockquote": Page._quote,
    "/blockquote": Page._end_quote,
    "hr": Page._rule,
    **{f"h{level}": _heading(level) for level in range(1, 7)},
    **{f"/h{level}": Page._end_head for level in range(1, 7)},
    "table": Page._open_table,
    "/table": Page._close_table,
    "tr": Page._row,
    "td": Page._open_cell,
    "th": Page._head_cell,
    "/td": Page._end_cell,
    "/th": Page._end_cell,
}
"""What to do at a tag of structure; it is given the source of the attributes."""
