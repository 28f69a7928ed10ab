"""Where a line may end: at spaces, and between Chinese characters, but never before a comma or after a bracket.

Widths are terminal cells: a Chinese character takes two, a combining accent none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.cells import cell_len, get_character_cell_size

# Kinsoku: what may not start a line, and what may not end one.
_NO_START = frozenset("。，、；：？！）】》」』〉〕”’…—～·％,.;:?!)]}%°")
_NO_END = frozenset("（【《「『〈〔“‘([{$#@")


@dataclass(frozen=True, slots=True)
class _Piece:
    """Text that stays together, `text[start:end]`; `spaces` cells of blank may stand before it."""

    start: int
    end: int
    cells: int
    spaces: int


def wrap(text: str, width: int, *, indent: int = 0) -> list[tuple[int, int]]:
    """Slices of `text`, one a line, none wider than `width` cells; blanks at a break are left out.

    The first line is narrower by `indent` cells, which stand before it.
    """
    lines: list[tuple[int, int]] = []
    room = -1
    for piece in _fitting(_pieces(text), text, max(width - max(indent, 0), 2)):
        if piece.spaces + piece.cells <= room:
            lines[-1] = (lines[-1][0], piece.end)
            room -= piece.spaces + piece.cells
        else:
            room = width - piece.cells - (0 if lines else indent)
            lines.append((piece.start, piece.end))
    return lines or [(0, 0)]


def balanced(text: str, width: int) -> list[tuple[int, int]]:
    """Like `wrap`, with the lines about equally long: as few lines as `width` allows, then as narrow as they allow."""
    count = len(wrap(text, width))
    low, high = 2, width
    while low < high:
        middle = (low + high) // 2
        if len(wrap(text, middle)) <= count:
            high = middle
        else:
            low = middle + 1
    return wrap(text, max(low, min(width, 24)))


def is_wide(character: str) -> bool:
    """Whether a line may break beside `character`: it fills two cells, as Chinese writing does."""
    return get_character_cell_size(character) == 2


def _pieces(text: str) -> Iterator[_Piece]:
    start = index = spaces = 0
    while index < len(text):
        if text[index] == " ":
            if index > start:
                yield _Piece(start, index, cell_len(text[start:index]), spaces)
                spaces = 0
            spaces += 1
            start = index = index + 1
            continue
        if index > start and _breaks_between(text[index - 1], text[index]):
            yield _Piece(start, index, cell_len(text[start:index]), spaces)
            start, spaces = index, 0
        index += 1
    if index > start:
        yield _Piece(start, index, cell_len(text[start:index]), spaces)


def _breaks_between(before: str, after: str) -> bool:
    if get_character_cell_size(after) == 0 or after in _NO_START or before in _NO_END:
        return False
    return is_wide(before) or is_wide(after) or (before == "—" and after != "—")


def _fitting(pieces: Iterator[_Piece], text: str, width: int) -> Iterator[_Piece]:
    """The pieces, those wider than a line cut into lines."""
    for piece in pieces:
        if piece.cells <= width:
            yield piece
            continue
        start, cells, spaces = piece.start, 0, piece.spaces
        for index in range(piece.start, piece.end):
            size = get_character_cell_size(text[index])
            if cells + size > width:
                yield _Piece(start, index, cells, spaces)
                start, cells, spaces = index, 0, 0
            cells += size
        yield _Piece(start, piece.end, cells, spaces)
