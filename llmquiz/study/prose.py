"""Markdown as plain text, for a pipe, a screen reader or one line of a table: no marks, formulas in Unicode."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

from llmquiz.deck.math import render_markdown

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_CODE_INDENT = "    "


def one_line(markdown: str) -> str:
    """`markdown` as a single line of text."""
    return " ".join(" ".join(lines(markdown)).split())


def lines(markdown: str) -> list[str]:
    """`markdown` as lines: a line for each paragraph and list item, code as it stands, indented."""
    return list(_lines(_parser().parse(render_markdown(markdown))))


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table")


def _lines(tokens: list[Token]) -> Iterator[str]:
    markers: list[str] = []  # of the open lists: a bullet, or the number of the next item
    prefix = ""
    for token in tokens:
        if token.type in ("bullet_list_open", "ordered_list_open"):
            markers.append("-" if token.type == "bullet_list_open" else str(token.attrGet("start") or 1))
        elif token.type in ("bullet_list_close", "ordered_list_close"):
            markers.pop()
        elif token.type == "list_item_open":
            prefix = "  " * (len(markers) - 1) + (markers[-1] if markers[-1] == "-" else f"{markers[-1]}.") + " "
        elif token.type == "list_item_close" and markers[-1] != "-":
            markers[-1] = str(int(markers[-1]) + 1)
        elif token.type == "inline":
            yield from (prefix + line for line in _inline(token).split("\n"))
            prefix = "  " * len(markers)
        elif token.type in ("fence", "code_block"):
            yield from (_CODE_INDENT + line for line in token.content.rstrip("\n").split("\n"))


def _inline(token: Token) -> str:
    """The text of a paragraph; a link keeps its address, as nobody can click it here."""
    parts: list[str] = []
    target = ""
    for child in token.children or ():
        if child.type == "softbreak":
            parts.append(" ")
        elif child.type == "hardbreak":
            parts.append("\n")
        elif child.type == "link_open":
            target = str(child.attrGet("href") or "")
        elif child.type == "link_close":
            parts.append(f" ({target})" if target and parts[-1:] != [target] else "")
        elif child.type == "image":
            parts.append(child.content)
        else:
            parts.append(child.content)
    return "".join(parts)
