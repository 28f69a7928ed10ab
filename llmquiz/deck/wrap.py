"""Line breaking by cells: Latin words break at spaces, Chinese between any two characters.

Closing punctuation never starts a line, opening punctuation never ends one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.cells import cell_len, chop_cells

_WIDE = "\u1100-\u115f\u2e80-\u303e\u3041-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\uac00-\ud7a3\uf900-\ufaff\uff00-\uff60"
_ATOM = re.compile(rf"[{_WIDE}]|[^\s{_WIDE}]+")
_NO_START = frozenset("，。、；：？！）】》」』”’…—,.;:?!)]}%")
_NO_END = frozenset("（【《「『“‘([{")


def wrap(text: str, width: int, *, first: str = "", rest: str = "") -> list[str]:
    """`text` in lines of at most `width` cells; `first` starts the first one, `rest` the others; line breaks stay."""
    lines: list[str] = []
    for part in text.split("\n"):
        lines += _wrap_line(part, width, rest if lines else first, rest)
    return lines


def is_wide(char: str) -> bool:
    """Whether a line may break on either side of `char`."""
    return re.match(f"[{_WIDE}]", char) is not None


def _wrap_line(text: str, width: int, first: str, rest: str) -> list[str]:
    lines: list[str] = []
    pieces, used, empty = [first], cell_len(first), True
    for atom, spaced in _atoms(text):
        gap, size = " " if spaced and not empty else "", cell_len(atom)
        if not empty and used + len(gap) + size > width:
            lines.append("".join(pieces))
            pieces, used, empty, gap = [rest], cell_len(rest), True, ""
        while size > (room := max(width - used, 2)):
            head = chop_cells(atom, room)[0]
            lines.append("".join(pieces) + head)
            pieces, used, atom = [rest], cell_len(rest), atom[len(head) :]
            size = cell_len(atom)
        pieces += [gap, atom]
        used, empty = used + len(gap) + size, False
    return [*lines, "".join(pieces).rstrip() if empty else "".join(pieces)]


def _atoms(text: str) -> Iterator[tuple[str, bool]]:
    """What may not be broken, and whether a space stands before it."""
    atom, spaced, end = "", False, 0
    for match in _ATOM.finditer(text):
        after_space = match.start() > end
        glued = not after_space and atom and (match[0][0] in _NO_START or atom[-1] in _NO_END)
        end = match.end()
        if glued:
            atom += match[0]
            continue
        if atom:
            yield atom, spaced
        atom, spaced = match[0], after_space
    if atom:
        yield atom, spaced
