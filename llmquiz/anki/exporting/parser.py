"""Markdown with TeX → HTML by the parser: tables, nested lists, and whatever else `simple` declines."""

from __future__ import annotations

import re
from collections.abc import Collection, MutableMapping, Sequence
from functools import cache
from html import escape as html_escape
from typing import Any
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import OptionsDict

from llmquiz.anki.exporting import simple
from llmquiz.anki.exporting.escape import code, math, text
from llmquiz.anki.exporting.highlight import code_block

_MATH = re.compile(simple.MATH, re.DOTALL)
_PICTURES = "pictures"
_BEYOND_NAME = re.compile(r"[/\\:]")


def block(markdown: str, pictures: Collection[str] = ()) -> str:
    """Whole paragraphs, lists, tables and code blocks.

    Args:
        pictures: names of files that travel along; any other picture is shown as its description.
    """
    html: str = _markdown(names=bool(pictures)).render(markdown, {_PICTURES: pictures})
    return html.strip()


def inline(markdown: str) -> str:
    """A line, without a paragraph around it."""
    html: str = _markdown().renderInline(markdown)
    return html


@cache
def _markdown(*, names: bool = False) -> MarkdownIt:
    """The parser; one that takes the `names` of files for addresses too is needed where pictures are."""
    parser = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer).enable(["table", "strikethrough"])
    parser.inline.ruler.before("escape", "math", _inline_math)
    parser.block.ruler.before("fence", "math", _block_math, {"alt": ["paragraph", "reference", "blockquote", "list"]})
    parser.validateLink = _is_link_or_name if names else _is_web_link  # type: ignore[method-assign]
    return parser


def _is_web_link(url: str) -> bool:
    return url.lower().startswith(("https://", "http://"))


def _is_link_or_name(url: str) -> bool:
    return _is_web_link(url) or not _BEYOND_NAME.search(unquote(url))


def _inline_math(state: StateInline, silent: bool) -> bool:
    """``$x$`` and ``$$x$$``; as in Pandoc, no space inside the dollars and no digit after them."""
    match = _MATH.match(state.src, state.pos, state.posMax)
    if match is None:
        return False
    if not silent:
        token = state.push("math", "", 0)
        token.content = match["display"] or match["inline"]
        token.meta["display"] = match["display"] is not None
    state.pos = match.end()
    return True


def _block_math(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """``$$`` … ``$$`` on lines of their own; without this rule a line such as ``- b`` would start a list."""
    last = _last_line(state, start, end)
    if last is None:
        return False
    tex = "\n".join(_line(state, line) for line in range(start, last + 1)).strip()[2:-2]
    if not silent and tex.strip():
        token = state.push("math", "", 0)
        token.block = True
        token.content = tex
        token.meta["display"] = True
        token.map = [start, last + 1]
    state.line = last + 1
    return True


def _last_line(state: StateBlock, start: int, end: int) -> int | None:
    """The line at whose end the formula stops; None if there is no formula, or it reaches past its paragraph."""
    if not _line(state, start).startswith("$$"):
        return None
    for line in range(start, end):
        source = _line(state, line).strip().removeprefix("$$" if line == start else "")
        if "$$" in source:
            return line if source.index("$$") == len(source) - 2 else None
        if not source and line > start:
            return None
    return None


def _line(state: StateBlock, number: int) -> str:
    return state.src[state.bMarks[number] + state.tShift[number] : state.eMarks[number]]


class _Renderer(RendererHTML):
    """markdown-it's renderer with our escaping, formulas and coloured code."""

    def text(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        return text(tokens[idx].content)

    def math(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        token = tokens[idx]
        html = math(token.content, display=token.meta["display"])
        return f"<p>{html}</p>\n" if token.block else html

    def link_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        address = str(tokens[idx].attrs["href"])
        return f'<a href="{html_escape(address)}">' if _is_web_link(address) else "<a>"

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        name = unquote(str(tokens[idx].attrs["src"]))
        if name not in env.get(_PICTURES, ()):
            return text(tokens[idx].content)
        return f'<img src="{html_escape(name)}" alt="{html_escape(tokens[idx].content).replace("[", "&#91;")}">'

    def softbreak(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        return simple.softbreak(*(tokens[at].content[end:][:1] for at, end in ((idx - 1, -1), (idx + 1, 0))))

    def code_inline(
        self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]
    ) -> str:
        return f"<code>{code(tokens[idx].content)}</code>"

    def code_block(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        return code_block(tokens[idx].content, "") + "\n"

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        return code_block(tokens[idx].content, tokens[idx].info.split(" ")[0]) + "\n"
