"""Characters that stand for markup while a field is on its way from HTML to Markdown.

They are Unicode noncharacters, which no text may hold, and `neutral` takes them out of whatever comes in: so none can
be forged. An end mark is its beginning plus one. A link, and a thing that must not be touched ("atom": code, a formula,
a picture), carries the number of its entry in a list: ``ATOM 12 DONE``.
"""

from __future__ import annotations

import re

STRONG, STRONG_END = "\ufdd0", "\ufdd1"
EM, EM_END = "\ufdd2", "\ufdd3"
STRIKE, STRIKE_END = "\ufdd4", "\ufdd5"
LINK, LINK_END = "\ufdd6", "\ufdd7"
ATOM, DONE = "\ufdd8", "\ufdd9"
BREAK, LINE, PARAGRAPH = "\ufdda", "\ufddb", "\ufddc"  # <br>; the edge of a <div>; the edge of a <p>
RAISED, RAISED_END = "\ufddd", "\ufdde"
LOWERED, LOWERED_END = "\ufddf", "\ufde0"
ANSWER = "\ufde1"  # <hr id=answer>

ANY = re.compile("[\ufdd0-\ufde1]")
_NUMBERED = re.compile("[\ufdd6\ufdd8][0-9]*\ufdd9?")


def has_any(text: str) -> bool:
    """Whether there are marks in `text`."""
    return not text.isascii() and ANY.search(text) is not None


def strip(text: str) -> str:
    """`text` without marks, line marks as line breaks: what a formula, an attribute or code makes of them."""
    if not has_any(text):
        return text
    text = _NUMBERED.sub("", text).replace(BREAK, "\n")
    return ANY.sub("", re.sub(f"[{LINE}{PARAGRAPH}]+", "\n", text))
