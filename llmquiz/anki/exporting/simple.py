"""The common case of Markdown, many times faster than the parser: prose, code, formulas, links, flat lists.

Nine fields in ten are no more than that. Whatever else a text holds, these functions decline, and the parser decides.

What costs time is not the text but the calls. So `outline` only notes where paragraphs and lists begin and end: a draft
is Markdown with finished HTML in it, between control characters. `finish` converts the Markdown of a draft in one pass,
however many notes it holds, and looks up what it finds there among what it found before.
"""

from __future__ import annotations

import re

from llmquiz.anki.exporting.escape import code, math
from llmquiz.anki.exporting.highlight import code_block

DECLINED = "\x01"
_HTML, _NEXT = "\x02\x03"
_MARK = r"\x00-\x08\x0e-\x1f"


def ready(html: str) -> str:
    """`html` as a part of a draft that stays as it is."""
    return f"{_HTML}{html}{_HTML}"


ITEMS, NEXT_ITEM, ITEMS_END = map(ready, ("<ul><li>", "</li><li>", "</li></ul>"))
_P, _P_END = map(ready, ("<p>", "</p>"))
_UL, _NEXT_LINE, _UL_END = map(ready, ("<ul>\n<li>", "</li>\n<li>", "</li>\n</ul>"))

MATH = (
    rf"\$\$(?=\s*[^\s$])(?P<display>(?:[^$\\{_MARK}]+|\\[^{_MARK}]|\$(?!\$))++)\$\$"
    rf"|\$(?P<inline>(?![\s$])(?:[^$\\\s{_MARK}]+|\\[^{_MARK}]|[^\S{_MARK}]+(?!\$))++)\$(?!\d)"
)
"""``$x$`` and ``$$x$$``; as in Pandoc, no space inside the dollars and no digit after them."""

# No character of it takes percent-encoding or HTML escaping.
_URL = r"https?://[A-Za-z0-9./_?=#:+-]+"
_WORDS = rf"[^\\`*_\[\]<>&$~\n!{_MARK}]"
_IDEOGRAPH = r"[\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef]"
# Each way begins with a literal, which lets the engine skip plain text. What is found says by itself what becomes of
# it: a single character is what the parser must decide, but for two that are escaped.
_SPECIAL = re.compile(
    rf"(`[^`\s{_MARK}](?:[^`\n{_MARK}]*[^`\s{_MARK}])?`(?!`)"
    rf"|{re.sub('[?]P<[a-z]+>', '?:', MATH)}"
    rf"|\n(?<=[\s`$*>)]\n)|\n(?=[\s`$*<\[])|\n(?<={_IDEOGRAPH}\n){_IDEOGRAPH}"
    rf"|\*\*[^\W_](?:{_WORDS}*[^\W_])?\*\*(?!\*)"
    rf"|<{_URL}>|<[ =\d]"
    rf"|\[{_WORDS}+\]\({_URL}\)"
    r"|_(?<![A-Za-z0-9]_)|_(?![A-Za-z0-9])|!(?=\[)|&[A-Za-z#]|&|>"
    r"|\\|`|\*|\[|<|\$|~)",
    re.DOTALL,
)
_ESCAPED = {"&": "&amp;", ">": "&gt;"}
_BLOCK_START = re.compile(r"[-+>#=:|\s]|\d+[.)](?=\s|$)|\$\$|```")
_MAY_START = frozenset("-+>#=:|$`0123456789").union(filter(str.isspace, map(chr, range(0x3001))))
_BLANK = re.compile(r"\n\n+")
_FENCE = re.compile(
    r"(?:\A|\n\n)```(?P<language>[a-z0-9+#-]*)\n(?P<code>[^`]*(?:`{1,2}(?!`)[^`]*)*)(?<=\n)```(?=\n\n|\Z)"
)
_CJK = re.compile(_IDEOGRAPH)
_DASH = "- "
_MEMORY = 16_384


def inline(markdown: str) -> str | None:
    """The HTML of `markdown`; None if it takes the parser."""
    html = _converted(markdown)
    return None if DECLINED in html else html


def block(markdown: str) -> str | None:
    """The HTML of paragraphs, flat lists and code blocks; None if anything in it takes the parser."""
    draft = outline(markdown)
    html = DECLINED if draft is None else finish(draft)
    return None if DECLINED in html else html


def outline(markdown: str) -> str | None:
    """A draft of `markdown`, with the tags of its blocks; None if their order takes the parser."""
    if "```" not in markdown:
        return _blocks(markdown)
    parts, end = [], 0
    for fence in _FENCE.finditer(markdown):
        if before := markdown[end : fence.start()].strip("\n"):
            parts.append(_blocks(before))
        parts.append(ready(code_block(fence["code"], fence["language"])))
        end = fence.end()
    if rest := markdown[end:].strip("\n"):
        parts.append(_blocks(rest))
    outlined = [part for part in parts if part is not None]
    return "\n".join(outlined) if len(outlined) == len(parts) else None


def finish(draft: str) -> str:
    """The HTML of `draft`, with `DECLINED` wherever it takes the parser."""
    parts = draft.split(_HTML)
    parts[::2] = _converted(_NEXT.join(parts[::2])).split(_NEXT)
    return "".join(parts)


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
    return f"{_UL}{_NEXT_LINE.join(items)}{_UL_END}"


class _Spans(dict[str, str]):
    """What was found in a text → its HTML. Symbols and names recur all over a deck, so most of them are here."""

    def __missing__(self, found: str) -> str:
        if len(self) >= _MEMORY:
            self.clear()
        html = self[found] = _span(found)
        return html


_spans = _Spans()


def _converted(markdown: str) -> str:
    parts = _SPECIAL.split(markdown)
    parts[1::2] = map(_spans.__getitem__, parts[1::2])
    return "".join(parts)


def _span(found: str) -> str:
    if len(found) == 1:
        return _ESCAPED.get(found, DECLINED)
    match found[0]:
        case "`":
            return f"<code>{code(found[1:-1])}</code>"
        case "$":
            return math(found[2:-2], display=True) if found[1] == "$" else math(found[1:-1])
        case "*":
            return f"<strong>{found[2:-2]}</strong>"
        case "\n":
            return found[1]
        case "&":
            return DECLINED
        case "<" if len(found) == 2:
            return f"&lt;{found[1]}"
    label, _, url = found[1:-1].partition("](")
    return f'<a href="{url or label}">{label}</a>'
