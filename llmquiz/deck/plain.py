"""Card text for plain terminals: Markdown to wrapped lines without markup, formulas as Unicode."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING

from llmquiz.core.card import Card, CardText, Kind, Lang
from llmquiz.deck import cloze, parts
from llmquiz.deck.linebreak import is_wide
from llmquiz.deck.math import render_markdown
from llmquiz.deck.parts import Part
from llmquiz.deck.reading import printable
from llmquiz.deck.wrap import wrap

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

WIDTH = 80
_ENDLESS = 1 << 30
_LETTERS = "ABCDEFGH"


def to_plain(markdown: str, width: int = WIDTH) -> str:
    """Card Markdown as text of at most `width` cells a line; code keeps its lines as they are."""
    tokens = _parser().parse(render_markdown(markdown))
    return printable("\n".join(_blocks(iter(tokens), width)))


def lines(markdown: str) -> list[str]:
    """Card Markdown as lines, for a pipe or a screen reader: one for each paragraph and list item; code is indented."""
    return [line for line in to_plain(markdown, _ENDLESS).split("\n") if line.strip()]


def one_line(markdown: str) -> str:
    """Card Markdown as a single line of text."""
    return " ".join(to_plain(markdown, _ENDLESS).split())


def card(card: Card, lang: Lang = Lang.EN, width: int = WIDTH) -> str:
    """All of a card, answers included, in `lang` or in the language that it has."""
    text = card.text(lang)
    if card.kind is Kind.NOTE:
        return _note(card, text, width)
    answer = cloze.plain(text.answer) if card.kind is Kind.CLOZE else text.answer
    paragraphs = [
        f"{card.id}  ({card.deck} · {card.topic} · {card.kind} · {card.level} · {card.frequency})",
        to_plain(text.front, width),
        to_plain(answer, width),
        to_plain(text.detail, width),
        _options(text, width),
        _part(Part.KEY_POINTS, lang, text.key_points, width),
        _part(Part.SYMBOLS, lang, text.symbols, width),
        _titled(parts.heading(Part.PITFALL, lang), to_plain(text.pitfall, width)),
        _lab(card),
        _part(Part.FOLLOW_UPS, lang, card.follow_ups, width),
        _part(Part.SOURCES, lang, card.sources, width),
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _note(card: Card, text: CardText, width: int) -> str:
    sides = [to_plain(side, width) for face in text.faces for side in (face.front, face.back)]
    return "\n\n".join([f"{card.id}  ({card.deck} · {card.kind})", *(side for side in sides if side)])


def _options(text: CardText, width: int) -> str:
    lines: list[str] = []
    for letter, choice in zip(_LETTERS, text.choices, strict=False):
        lines += wrap(_flat(choice.text), width, first=f"{'*' if choice.right else ' '} {letter}. ", rest=" " * 5)
        if choice.why:
            lines += wrap(_flat(choice.why), width, first=" " * 5, rest=" " * 5)
    return "\n".join(lines)


def _part(part: Part, lang: Lang, items: Iterable[str], width: int) -> str:
    return _titled(parts.heading(part, lang), to_plain("\n".join(f"- {item}" for item in _indented(items)), width))


def _indented(items: Iterable[str]) -> Iterator[str]:
    return (item.replace("\n", "\n  ") for item in items)


def _titled(title: str, body: str) -> str:
    return f"{title}\n{body}" if body else ""


def _lab(card: Card) -> str:
    if card.lab is None:
        return ""
    words = [f"{name}={value}" for name, value in card.lab.params.items()]
    return " ".join(["Lab:", card.lab.lab, *words, *([f"(predict {card.lab.metric})"] if card.lab.metric else [])])


def _flat(markdown: str) -> str:
    """Markdown of one paragraph as one line."""
    return " ".join(to_plain(markdown, 1_000_000).split("\n"))


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table")


def _blocks(tokens: Iterator[Token], width: int, first: str = "", rest: str = "") -> Iterator[str]:
    """Lines of the blocks up to the end of the enclosing one; a blank line between two, unless in a tight list."""
    begun = False
    for token in tokens:
        if token.nesting < 0:
            return
        lines = list(_block(token, tokens, width, rest if begun else first, rest))
        if not lines:
            continue
        if begun and not (token.type == "paragraph_open" and token.hidden) and not _is_nested_list(token):
            yield rest.rstrip()
        yield from lines
        begun = True


def _is_nested_list(token: Token) -> bool:
    return token.level > 0 and token.type in ("bullet_list_open", "ordered_list_open")


def _block(token: Token, tokens: Iterator[Token], width: int, first: str, rest: str) -> Iterator[str]:
    if token.type in ("fence", "code_block", "html_block"):
        for index, line in enumerate(token.content.rstrip("\n").split("\n")):
            yield f"{rest if index else first}    {line}".rstrip()
    elif token.type in ("paragraph_open", "heading_open"):
        inline = next(tokens)
        next(tokens)
        yield from wrap(_inline(inline), width, first=first, rest=rest)
    elif token.type in ("bullet_list_open", "ordered_list_open"):
        yield from _list(token, tokens, width, first, rest)
    elif token.type == "blockquote_open":
        yield from _blocks(tokens, width, f"{first}> ", f"{rest}> ")
    elif token.type == "hr":
        yield f"{first}---"
    elif token.type == "table_open":
        for index, row in enumerate(_rows(tokens)):
            yield f"{rest if index else first}{' | '.join(row)}"


def _list(opening: Token, tokens: Iterator[Token], width: int, first: str, rest: str) -> Iterator[str]:
    number = int(opening.attrGet("start") or 1)
    before = first
    for token in tokens:
        if token.nesting < 0:
            return
        mark = "- " if opening.type == "bullet_list_open" else f"{number}. "
        yield from _blocks(tokens, width, before + mark, rest + " " * len(mark))
        number, before = number + 1, rest


def _rows(tokens: Iterator[Token]) -> Iterator[list[str]]:
    """The cells of each row of a table."""
    row: list[str] = []
    for token in tokens:
        if token.type == "inline":
            row.append(_inline(token))
        elif token.type == "tr_close":
            yield row
            row = []
        elif token.type == "table_close":
            return


def _inline(token: Token) -> str:
    pieces: list[str] = []
    links: list[str] = []
    children = token.children or []
    for index, child in enumerate(children):
        if child.type == "softbreak":
            pieces.append(_soft_break(children, index))
        elif child.type == "hardbreak":
            pieces.append("\n")
        elif child.type == "link_open":
            links.append("" if child.info == "auto" else str(child.attrGet("href") or ""))
        elif child.type == "link_close":
            pieces.append(f" <{href}>" if (href := links.pop()) else "")
        elif child.type == "code_inline":
            pieces.append(f"`{child.content}`")
        else:
            pieces.append(child.content)
    return "".join(pieces)


def _soft_break(children: list[Token], index: int) -> str:
    """A line break of the source: nothing between two Chinese characters, else a space."""
    before = children[index - 1].content[-1:] if index else ""
    after = children[index + 1].content[:1] if index + 1 < len(children) else ""
    return "" if before and after and is_wide(before) and is_wide(after) else " "
