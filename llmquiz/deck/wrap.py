"""Plain text in lines of so many cells, with a prefix before the first line and another before the rest."""

from __future__ import annotations

from rich.cells import cell_len

from llmquiz.deck import linebreak


def wrap(text: str, width: int, *, first: str = "", rest: str = "") -> list[str]:
    """`text` in lines of at most `width` cells; `first` starts the first one, `rest` the others; line breaks stay."""
    lines: list[str] = []
    for part in text.split("\n"):
        lines += _wrap_line(" ".join(part.split()), width, rest if lines else first, rest)
    return lines


def _wrap_line(text: str, width: int, first: str, rest: str) -> list[str]:
    indent = cell_len(first) - cell_len(rest)
    slices = linebreak.wrap(text, width - cell_len(rest), indent=indent)
    prefixes = [first, *(rest for _ in slices[1:])]
    return [(prefix + text[start:end]).rstrip() for prefix, (start, end) in zip(prefixes, slices, strict=True)]
