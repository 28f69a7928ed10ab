"""A table of HTML as one of Markdown, where a cell is a line and the first row is the head.

People use tables for looks as well: one of a single column is paragraphs, and line numbers beside code are left out.
"""

from __future__ import annotations

_MOST_COLUMNS = 32  # the rest of a row joins its last cell, so that no table is padded to a million cells


class Table:
    """Takes the cells of a table.

    Attributes:
        inner: how many tables are open inside a cell; they are lines of it.
        is_gutter: whether the open cell holds line numbers.
    """

    def __init__(self) -> None:
        self.inner = 0
        self.is_gutter = False
        self._rows: list[list[str]] = []
        self._has_head = False

    def open_row(self) -> None:
        """The next row begins."""
        self._rows.append([])

    def open_cell(self, *, is_head: bool, is_gutter: bool) -> None:
        """The next cell begins."""
        if not self._rows:
            self.open_row()
        self._has_head = self._has_head or (is_head and self._rows == [[]])
        self.is_gutter = is_gutter

    def add(self, text: str) -> None:
        """The Markdown of a cell, without bars and line breaks."""
        row = self._rows[-1]
        if self.is_gutter:
            return
        if len(row) < _MOST_COLUMNS:
            row.append(text)
        elif text:
            row[-1] += f" / {text}"

    def blocks(self) -> list[str]:
        """The table as one block; of a single column, its rows."""
        rows = [row for row in self._rows if any(row)]
        width = max((len(row) for row in rows), default=0)
        if width < 2:
            return [row[0] for row in rows]
        head = rows[0] if self._has_head else []
        lines = [[*head, *[""] * (width - len(head))], ["---"] * width, *rows[self._has_head :]]
        return ["\n".join(f"| {' | '.join(row)} |" for row in lines)]
