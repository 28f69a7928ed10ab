"""The common case of Markdown, several times faster than the parser: prose, code spans, formulas, links, flat lists.

Nine fields in ten are no more than that. Whatever else a text holds, these functions decline, and the parser decides.
"""

from __future__ import annotations

import re
from itertools import pairwise

from llmquiz.anki.escape import code, math

MATH = (
    r"\$\$(?=\s*[^\s$])(?P<display>(?:\\.|(?!\$\$)[^\\])+)\$\$"
    r"|\$(?P<inline>(?![\s$])(?:\\.|[^$\\])*?(?:\\.|[^$\\\s]))\$(?!\d)"
)
"""``$x$`` and ``$$x$$``; as in Pandoc, no space inside the dollars and no digit after them."""

# No character of it takes percent-encoding or HTML escaping.
_URL = r"https?://[A-Za-z0-9./_?=#:+-]+"
_WORDS = r"[^\\`*_\[\]<>&$~\n!]"
# Each way begins with a literal, which lets the engine skip plain text. The last line is what the parser must decide.
_SPECIAL = re.compile(
    r"`(?P<code>[^`\s](?:[^`\n]*[^`\s])?)`(?!`)"
    rf"|{MATH}"
    r"|\n(?P<softbreak>(?<![\s`$*>)]\n)(?![\s`$*<\[]))"
    rf"|\*\*(?P<strong>[^\W_](?:{_WORDS}*[^\W_])?)\*\*(?!\*)"
    rf"|<(?P<address>{_URL})>"
    rf"|\[(?P<label>{_WORDS}+)\]\((?P<url>{_URL})\)"
    r"|_(?P<underscore>(?<=[A-Za-z0-9]_)(?=[A-Za-z0-9]))|!(?P<mark>(?!\[))"
    r"|&(?P<ampersand>(?![A-Za-z#]))|<(?P<less>(?=[ =\d]))|>(?P<greater>)"
    r"|\\|`|\*|_|\[|<|&|\$|~|\n|!",
    re.DOTALL,
)
_ESCAPED = {"underscore": "_", "mark": "!", "ampersand": "&amp;", "less": "&lt;", "greater": "&gt;"}
_BLOCK_START = re.compile(r"[-+>#=:|\s]|\d+[.)]|\$\$|```")
_BLANK = re.compile(r"\n\n+")
_CJK = re.compile(r"[\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef]")
_ITEM = "- "


class _DeclinedError(Exception):
    """The text takes the parser."""


def inline(markdown: str) -> str | None:
    """The HTML of `markdown`; None if it takes the parser."""
    try:
        return _SPECIAL.sub(_html, markdown)
    except _DeclinedError:
        return None


def block(markdown: str) -> str | None:
    """The HTML of paragraphs and flat lists; None if anything in it takes the parser."""
    chunks = _BLANK.split(markdown)
    if any(first.startswith(_ITEM) and second.startswith(_ITEM) for first, second in pairwise(chunks)):
        return None  # one list, with its items in paragraphs
    blocks = [_list(chunk) if chunk.startswith(_ITEM) else _paragraph(chunk) for chunk in chunks]
    return None if None in blocks else "\n".join(filter(None, blocks))


def softbreak(before: str, after: str) -> str:
    """A line break in the source: nothing between two Chinese characters, else white space."""
    return "" if _CJK.match(before) and _CJK.match(after) else "\n"


def _paragraph(chunk: str) -> str | None:
    if any(_BLOCK_START.match(line) for line in chunk.split("\n")):
        return None
    html = inline(chunk.rstrip())
    return None if html is None else f"<p>{html}</p>"


def _list(chunk: str) -> str | None:
    items = []
    for line in chunk.split("\n"):
        content = line.removeprefix(_ITEM)
        if content == line or not content or _BLOCK_START.match(content) or (html := inline(content.rstrip())) is None:
            return None
        items.append(f"<li>{html}</li>\n")
    return f"<ul>\n{''.join(items)}</ul>"


def _html(match: re.Match[str]) -> str:
    kind = match.lastgroup
    if kind is None:
        raise _DeclinedError
    if kind == "code":
        return f"<code>{code(match['code'])}</code>"
    if kind in ("inline", "display"):
        return math(match[kind], display=kind == "display")
    if kind == "strong":
        return f"<strong>{match['strong']}</strong>"
    if kind == "address":
        return f'<a href="{match["address"]}">{match["address"]}</a>'
    if kind == "url":
        return f'<a href="{match["url"]}">{match["label"]}</a>'
    if kind == "softbreak":
        return softbreak(match.string[match.start() - 1 : match.start()], match.string[match.end() : match.end() + 1])
    return _ESCAPED[kind]
