"""The common case of Markdown, many times faster than the parser: prose, code, formulas, links, flat lists.

Nine fields in ten are no more than that. Whatever else a text holds, these functions decline, and the parser decides.

What costs time is not the text but the calls. So `outline` only notes where paragraphs and lists begin and end, with
control characters as marks, and `finish` converts what lies between them in one pass over all fields of a note.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from llmquiz.anki.exporting.escape import code, math
from llmquiz.anki.exporting.highlight import code_block

DECLINED, READY, FIELD_END, ITEMS, NEXT_ITEM, ITEMS_END = "\x01\x02\x03\x04\x05\x06"
_P, _P_END, _UL, _NEXT, _UL_END = "\x0e\x0f\x10\x11\x12"
_MARKS = {
    _P: "<p>", _P_END: "</p>", _UL: "<ul>\n<li>", _NEXT: "</li>\n<li>", _UL_END: "</li>\n</ul>",
    ITEMS: "<ul><li>", NEXT_ITEM: "</li><li>", ITEMS_END: "</li></ul>",
}  # fmt: skip
_MARK = r"\x00-\x08\x0e-\x1f"

MATH = (
    rf"\$\$(?=\s*[^\s$])(?P<display>(?:\\[^{_MARK}]|(?!\$\$)[^\\{_MARK}])+)\$\$"
    rf"|\$(?P<inline>(?![\s$])(?:\\[^{_MARK}]|[^$\\{_MARK}])*?(?:\\[^{_MARK}]|[^$\\\s{_MARK}]))\$(?!\d)"
)
"""``$x$`` and ``$$x$$``; as in Pandoc, no space inside the dollars and no digit after them."""

# No character of it takes percent-encoding or HTML escaping.
_URL = r"https?://[A-Za-z0-9./_?=#:+-]+"
_WORDS = rf"[^\\`*_\[\]<>&$~\n!{_MARK}]"
# Each way begins with a literal, which lets the engine skip plain text. The last line is what the parser must decide.
_SPECIAL = re.compile(
    rf"`(?P<code>[^`\s{_MARK}](?:[^`\n{_MARK}]*[^`\s{_MARK}])?)`(?!`)"
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
_BLOCK_START = re.compile(r"[-+>#=:|\s]|\d+[.)](?=\s|$)|\$\$|```")
_MAY_START = frozenset("-+>#=:|$`0123456789").union(filter(str.isspace, map(chr, range(0x3001))))
_BLANK = re.compile(r"\n\n+")
_FENCE = re.compile(
    r"(?:\A|\n\n)```(?P<language>[a-z0-9+#-]*)\n(?P<code>[^`]*(?:`{1,2}(?!`)[^`]*)*)(?<=\n)```(?=\n\n|\Z)"
)
_CJK = re.compile(r"[\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef]")
_DASH = "- "


def inline(markdown: str) -> str | None:
    """The HTML of `markdown`; None if it takes the parser."""
    return finish(markdown, ())


def block(markdown: str) -> str | None:
    """The HTML of paragraphs, flat lists and code blocks; None if anything in it takes the parser."""
    ready: list[str] = []
    draft = outline(markdown, ready)
    return None if draft is None else finish(draft, ready)


def outline(markdown: str, ready: list[str]) -> str | None:
    """`markdown` with marks for its blocks, for `finish`; None if their order takes the parser.

    Args:
        ready: gets the HTML of what is finished already.
    """
    if "```" not in markdown:
        return _blocks(markdown)
    parts, end, coded = [], 0, len(ready)
    for fence in _FENCE.finditer(markdown):
        if before := markdown[end : fence.start()].strip("\n"):
            parts.append(_blocks(before))
        ready.append(code_block(fence["code"], fence["language"]))
        parts.append(READY)
        end = fence.end()
    if rest := markdown[end:].strip("\n"):
        parts.append(_blocks(rest))
    outlined = [part for part in parts if part is not None]
    if len(outlined) < len(parts):
        del ready[coded:]
        return None
    return "\n".join(outlined)


def finish(draft: str, ready: Sequence[str]) -> str | None:
    """The HTML of all that `draft` holds between its marks; None if anything in it takes the parser.

    Args:
        ready: for each `READY` of the draft its HTML, in their order.
    """
    html = _SPECIAL.sub(_html, draft)
    if DECLINED in html:
        return None
    for mark, tag in _MARKS.items():
        html = html.replace(mark, tag)
    if not ready:
        return html
    first, *rest = html.split(READY)
    return first + "".join([done + text for done, text in zip(ready, rest, strict=True)])


def softbreak(before: str, after: str) -> str:
    """A line break in the source: nothing between two Chinese characters, else white space."""
    return "" if _CJK.match(before) and _CJK.match(after) else "\n"


def _blocks(markdown: str) -> str | None:
    if "\n" not in markdown:
        return _list([markdown]) if markdown.startswith(_DASH) else _paragraph([markdown])
    blocks, was_list = [], False
    for chunk in _BLANK.split(markdown) if "\n\n\n" in markdown else markdown.split("\n\n"):
        is_list = chunk.startswith(_DASH)
        if is_list and was_list:
            return None  # one list, with its items in paragraphs
        lines = chunk.split("\n")
        block = _list(lines) if is_list else _paragraph(lines)
        if block is None:
            return None
        blocks.append(block)
        was_list = is_list
    return "\n".join(blocks)


def _paragraph(lines: list[str]) -> str | None:
    for line in lines:
        if line[:1] in _MAY_START and _BLOCK_START.match(line):
            return None
    return _P + "\n".join(lines).rstrip() + _P_END


def _list(lines: list[str]) -> str | None:
    items = []
    for line in lines:
        content = line[2:]
        if line[:2] != _DASH or not content or (content[0] in _MAY_START and _BLOCK_START.match(content)):
            return None
        items.append(content.rstrip())
    return f"{_UL}{_NEXT.join(items)}{_UL_END}"


def _html(match: re.Match[str]) -> str:
    kind = match.lastgroup
    if kind is None:
        return DECLINED
    found = match[0]
    if len(found) > 1:
        return _span(kind, found)
    if kind == "softbreak":
        return softbreak(match.string[match.start() - 1 : match.start()], match.string[match.end() : match.end() + 1])
    return _ESCAPED[kind]


@lru_cache(maxsize=16_384)
def _span(kind: str, found: str) -> str:
    """Symbols and names recur all over a deck, so most of them are found ready."""
    if kind == "code":
        return f"<code>{code(found[1:-1])}</code>"
    if kind == "inline":
        return math(found[1:-1])
    if kind == "display":
        return math(found[2:-2], display=True)
    if kind == "strong":
        return f"<strong>{found[2:-2]}</strong>"
    label, _, url = found[1:-1].partition("](")
    return f'<a href="{url or label}">{label}</a>'
