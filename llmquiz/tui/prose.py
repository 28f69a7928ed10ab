"""Markdown as lines of styled text, set by our own hand: hanging bullets, CJK-aware line ends, quiet code blocks.

Textual's Markdown widget costs 54-65 ms a card and Rich's cannot be selected; this takes a few milliseconds, and since
its result is plain content, a reader can select and copy it. Styles name variables of the theme, so that a change of
theme needs no new layout.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.content import Content, Span
from textual.style import Style

from llmquiz.deck.linebreak import balanced, wrap

# A line of words alone, as most questions are: it needs no parser, whose import costs the first card a moment.
_UNMARKED = re.compile(r"[^\W\d_](?:[ ]?(?:[^\W_]|[.,:;?!'\"()/=%²³ⁿₖ√·×≤≥≈∈，。、；：？！（）“”《》—…-]))*")

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

MARK, UNMARK = "\ue000", "\ue001"  # private characters around marked words, which take the style of strong text
CODE = "$code"
MUTED = "$muted"
FAINT = "$faint"


@dataclass(frozen=True, slots=True)
class Block:
    """Something set below the last block: a paragraph, code, a table or a rule.

    Attributes:
        lines: its lines at a width in cells, without the prefixes.
        first, rest: what stands before its first line and before the others, e.g. a bullet and its indent.
        tight: no blank line before it.
    """

    lines: Callable[[int], list[Content]]
    first: Content = field(default_factory=Content.empty)
    rest: Content = field(default_factory=Content.empty)
    tight: bool = False

    def set(self, width: int) -> list[Content]:
        """The lines at `width` cells, prefixes included."""
        room = max(width - self.rest.cell_length, 4)
        lines = self.lines(room) or [Content.empty()]
        return [(self.rest if index else self.first) + line for index, line in enumerate(lines)]


def set_lines(blocks: Sequence[Block], width: int) -> list[Content]:
    """The blocks below one another at `width` cells, parted by blank lines unless tight."""
    lines: list[Content] = []
    for block in blocks:
        if lines and not block.tight:
            lines.append(Content.empty())
        lines.extend(block.set(width))
    return lines


@lru_cache(maxsize=128)
def blocks(markdown: str, *, strong: str = "bold", balance: bool = False) -> tuple[Block, ...]:
    """What `markdown` holds, in order.

    Args:
        strong: style of strong text; a cloze card lights its answer with it.
        balance: make the lines of paragraphs about equally long, as befits a question.
    """
    if not markdown.strip():
        return ()
    if _UNMARKED.fullmatch(markdown):
        return (Block(paragraph(Content(markdown), balance=balance)),)
    tokens = _parser().parse(markdown)
    return tuple(_Setter(strong, balance).blocks(tokens))


def paragraph(text: Content, *, balance: bool = False) -> Callable[[int], list[Content]]:
    """Lines of flowing text; a newline in it ends a line."""
    fill = balanced if balance else wrap

    def lines(width: int) -> list[Content]:
        return [line[start:end] for line in text.split("\n") for start, end in fill(line.plain, width)]

    return lines


class _Setter:
    """Walks the tokens of one text and remembers how deep in lists and quotes it is."""

    def __init__(self, strong: str, balance: bool) -> None:
        self.strong = strong
        self.balance = balance
        self.indents: list[Content] = []
        self.marker: Content | None = None
        self.numbers: list[int | None] = []
        self.tight = False

    def blocks(self, tokens: Sequence[Token]) -> Iterable[Block]:
        index = 0
        while index < len(tokens):
            token = tokens[index]
            if token.type == "table_open":
                end = next(i for i in range(index, len(tokens)) if tokens[i].type == "table_close")
                yield self._block(_table(list(self._rows(tokens[index:end]))))
                index = end
            elif token.type == "inline":
                yield self._inline(token, heading=tokens[index - 1].type == "heading_open")
            elif token.type in ("fence", "code_block"):
                yield self._block(_code(token.content.rstrip("\n"), token.info.split(" ")[0]))
            elif token.type == "hr":
                yield self._block(lambda width: [Content.styled("─" * width, FAINT)])
            elif token.type == "html_block":
                yield self._block(paragraph(Content(token.content.strip())))
            else:
                self._structure(token)
            index += 1

    def _structure(self, token: Token) -> None:
        match token.type:
            case "bullet_list_open":
                self.numbers.append(None)
            case "ordered_list_open":
                self.numbers.append(int(token.attrs.get("start", 1)))
            case "bullet_list_close" | "ordered_list_close":
                self.numbers.pop()
                self.tight = self.tight and bool(self.numbers)
            case "list_item_open":
                self._open_item()
            case "blockquote_open":
                self.indents.append(Content.styled("▏ ", FAINT))
            case "list_item_close" | "blockquote_close":
                self.indents.pop()
                self.tight = self.marker is None and self.tight

    def _open_item(self) -> None:
        number = self.numbers[-1]
        if number is not None:
            self.numbers[-1] = number + 1
        self.marker = Content.styled("• " if number is None else f"{number}. ", MUTED)
        self.indents.append(Content(" " * self.marker.cell_length))

    def _block(self, lines: Callable[[int], list[Content]], *, tight: bool = False) -> Block:
        rest = Content("").join(self.indents)
        first = Content("").join([*self.indents[:-1], self.marker]) if self.marker is not None else rest
        self.marker = None
        return Block(lines, first, rest, tight)

    def _inline(self, token: Token, *, heading: bool) -> Block:
        in_list = self.marker is not None
        tight = in_list and self.tight
        self.tight = in_list or (bool(self.numbers) and self.tight)
        text = _inline(token.children or [], self.strong)
        if heading:
            text = text.stylize("bold")
        return self._block(paragraph(text, balance=self.balance), tight=tight)

    def _rows(self, tokens: Sequence[Token]) -> Iterable[list[Content]]:
        row: list[Content] = []
        for token in tokens:
            if token.type == "inline":
                row.append(_inline(token.children or [], self.strong))
            elif token.type == "tr_close":
                yield row
                row = []


def warm() -> None:
    """Load the parser, in a moment in which nobody waits."""
    _parser()


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table")
    # Decoded for reading, %1B in an address would be an escape on the screen.
    parser.normalizeLinkText = str  # type: ignore[method-assign, assignment]
    return parser


def _inline(tokens: Sequence[Token], strong: str) -> Content:
    plain: list[str] = []
    spans: list[Span] = []
    open_at: list[tuple[int, str | Style]] = []
    length = 0
    for token in tokens:
        text, style = _leaf(token)
        if token.nesting == 1:
            open_at.append((length, _opened(token, strong)))
        elif token.nesting == -1:
            start, opened = open_at.pop()
            spans.append(Span(start, length, opened))
        elif text:
            if style:
                spans.append(Span(length, length + len(text), style))
            plain.append(text)
            length += len(text)
    return _marks(Content("".join(plain), spans), strong)


def _marks(text: Content, strong: str) -> Content:
    while (start := text.plain.find(MARK)) >= 0 and (end := text.plain.find(UNMARK, start)) > start:
        text = text[:start] + text[start + 1 : end].stylize(strong) + text[end + 1 :]
    return text


def _leaf(token: Token) -> tuple[str, str]:
    match token.type:
        case "code_inline":
            return token.content, CODE
        case "softbreak":
            return " ", ""
        case "hardbreak":
            return "\n", ""
        case "image":
            return f"▣ {token.content}", MUTED
        case _:
            return token.content, ""


def _opened(token: Token, strong: str) -> str | Style:
    match token.type:
        case "strong_open":
            return strong
        case "em_open":
            return "italic"
        case "link_open":
            href = str(token.attrs.get("href", ""))
            return Style(underline=True, link=href) if href.startswith(("https://", "http://")) else ""
        case _:
            return ""


def _code(code: str, language: str) -> Callable[[int], list[Content]]:
    coloured: Content | None = None

    def lines(width: int) -> list[Content]:
        nonlocal coloured
        if coloured is None:
            coloured = _highlight(code, language)
        rows = [row for line in coloured.split("\n", allow_blank=True) for row in _folded(line, width - 2)]
        return [row.pad_left(1).pad_right(width - row.cell_length - 1).stylize_before("on $surface") for row in rows]

    return lines


def _folded(line: Content, width: int) -> list[Content]:
    return line.fold(width) if line.cell_length > width else [line]


def _highlight(code: str, language: str) -> Content:
    if not language:
        return Content(code)
    from textual.highlight import highlight

    from llmquiz.tui.themes import CodeTheme

    return highlight(code, language=language, theme=CodeTheme)


def _table(rows: list[list[Content]]) -> Callable[[int], list[Content]]:
    """Columns as wide as their widest cell, the widest narrowed until the table fits; the head in bold over a rule."""
    count = max((len(row) for row in rows), default=0)

    def lines(width: int) -> list[Content]:
        widths = [max((row[c].cell_length for row in rows if c < len(row)), default=1) or 1 for c in range(count)]
        while sum(widths) + 2 * (count - 1) > width and max(widths) > 4:
            widths[widths.index(max(widths))] -= 1
        result = [line.stylize("bold") for line in _row(rows[0], widths)]
        result.append(Content.styled("─" * (sum(widths) + 2 * (count - 1)), FAINT))
        return result + [line for row in rows[1:] for line in _row(row, widths)]

    return lines if rows else lambda width: []


def _row(cells: list[Content], widths: list[int]) -> list[Content]:
    columns = [paragraph(cell)(width) for cell, width in zip(cells, widths, strict=False)]
    height = max(len(column) for column in columns)
    padded = [[*column, *[Content.empty()] * (height - len(column))] for column in columns]
    return [
        Content("  ").join(cell.pad_right(width - cell.cell_length) for cell, width in zip(line, widths, strict=False))
        for line in zip(*padded, strict=True)
    ]


def truncated(text: str, width: int) -> str:
    """`text` on one line of at most `width` cells, an ellipsis where it was cut."""
    text = " ".join(text.split())
    return text if cell_len(text) <= width else Content(text).truncate(width, ellipsis=True).plain
