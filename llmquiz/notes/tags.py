"""The tags of HTML as people paste it: found by one expression, in time linear in the text, whatever is left open.

A tag that never ends is text, not a tag: a browser would hide all that follows. A value in quotes may hold ``>``.
"""

from __future__ import annotations

import re

from llmquiz.notes import marks
from llmquiz.notes.marks import BREAK, EM, LINE, LINK_END, PARAGRAPH, STRIKE, STRONG, STRONG_END
from llmquiz.notes.neutral import decoded

# A quoted value may hold ">"; one that is never closed reaches to the end, and then the "tag" is shown as text.
_ATTRIBUTES = r"(?:[^<>=]++|=\s*+(?:\"[^\"]*+(?:\"|\Z)|'[^']*+(?:'|\Z))?+)*+"
_ELEMENTS_DROPPED = "script style iframe template head applet noembed noframes button select rp annotation"
# A first letter in two cases, rather than a flag, tells most tags apart at once.
DROPPED = "|".join(f"[{it[0].upper()}{it[0]}](?i:{it[1:]})" for it in _ELEMENTS_DROPPED.split())
TAG = re.compile(
    rf"<(?:(?P<dropped>{DROPPED})\b[^<>]*+>.*?(?:</(?i:(?P=dropped))\b[^<>]*+>|\Z)"
    rf"|(/?)([A-Za-z][^\s/<>]*+)({_ATTRIBUTES})(>?)"
    r"|!--.*?(?:-->|\Z)|[!?][^<>]*+>)",
    re.DOTALL,
)
_ATTRIBUTE = re.compile(r"([^\s=/>\"']++)(?:\s*+=\s*+(?:\"([^\"]*)\"|'([^']*)'|([^\s>]++)))?+")
_LANGUAGE = re.compile(r"(?:\A|\s)(?:language|lang|highlight-source|brush:)[-\s]([A-Za-z0-9+#-]{1,20})(?=\s|;|\Z)")
_URL = re.compile(r"https?://[^\s/?#]", re.IGNORECASE)
_UNSAFE_IN_URL = re.compile(r"[\s()<>\[\]\\`$|\"^{}]")
_UNSAFE_IN_NAME = re.compile(r"[\s()<>\[\]\\`$|\"^{}%&]")
_ENTITY_IN_URL = re.compile(r"&(?=#?[0-9A-Za-z]{1,32};)")
_LONGEST_URL = 2_000

_PAIRED = {
    STRONG: "b strong mark",
    EM: "i em u ins cite dfn var",
    STRIKE: "s del strike",
    marks.RAISED: "sup",
    marks.LOWERED: "sub",
}
_EDGES = (
    "div section article header footer main nav aside figure figcaption center address fieldset legend form dl dd "
    "body html hgroup noscript object optgroup option"
)
_INERT = "span font small big abbr label wbr bdi bdo time ruby rb q nobr thead tbody tfoot colgroup col"
MARKS = {
    **{f"{slash}{name}": "" for name in _INERT.split() for slash in ("", "/")},
    **{f"{slash}{name}": LINE for name in _EDGES.split() for slash in ("", "/")},
    **{name: mark for mark, names in _PAIRED.items() for name in names.split()},
    **{f"/{name}": chr(ord(mark) + 1) for mark, names in _PAIRED.items() for name in names.split()},
    "br": BREAK,
    "p": PARAGRAPH,
    "/p": PARAGRAPH,
    "details": PARAGRAPH,
    "/details": PARAGRAPH,
    "summary": PARAGRAPH + STRONG,
    "/summary": STRONG_END + PARAGRAPH,
    "dt": LINE + STRONG,
    "/dt": STRONG_END + LINE,
    "rt": "(",
    "/rt": ")",
    "/a": LINK_END,
}


def plain(html: str) -> str:
    """The text of neutral HTML, still with entities, without its tags: what Anki's filter ``text:`` leaves."""
    return TAG.sub("", html) if "<" in html else html


def without_unseen(html: str) -> str:
    """Neutral HTML without comments, scripts and the like; unchanged if one of its tags never ends."""
    if "<" not in html:
        return html
    is_whole = True

    def kept(match: re.Match[str]) -> str:
        nonlocal is_whole
        is_whole = is_whole and match.end() <= len(html) and match[5] != ""
        return match[0] if match[3] is not None else ""

    seen = TAG.sub(kept, f"{html} ")  # what reaches over the space is never closed
    return seen[:-1] if is_whole else html


def attributes(source: str) -> dict[str, str]:
    """The attributes of a tag, names in lower case, values as plain text; the first of a name counts."""
    found: dict[str, str] = {}
    for name, double, single, bare in _ATTRIBUTE.findall(source):
        found.setdefault(name.lower(), marks.strip(decoded(double or single or bare)))
    return found


def language(source: str) -> str:
    """The language of the code in an element with these attributes; empty if they do not say."""
    match = _LANGUAGE.search(attributes(source).get("class", "")) if "class" in source.lower() else None
    return match[1].lower() if match else ""


def safe_url(url: str) -> str:
    """`url` as it may stand in Markdown; empty if it does not lead to the web."""
    url = url.strip()
    if not _URL.match(url) or len(url) > _LONGEST_URL:
        return ""
    return _ENTITY_IN_URL.sub("&amp;", _UNSAFE_IN_URL.sub(_percent, url))


def is_web(url: str) -> bool:
    """Whether `url` leads to the web."""
    return _URL.match(url) is not None


def address(name: str) -> str:
    """The name of a file as Markdown may have it between brackets."""
    return _UNSAFE_IN_NAME.sub(_percent, name)


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode())
