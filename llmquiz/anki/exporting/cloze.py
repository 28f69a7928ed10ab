"""A sentence with deletions → the HTML of a cloze field.

Markdown and formulas are converted with each deletion's marks replaced by single private-use characters, and Anki's
own notation is put back last. Whatever else looks like it (``}}`` in code, ``::`` in a path) is disarmed in between.
"""

from __future__ import annotations

import re

from llmquiz.anki.exporting import escape, html
from llmquiz.core.card import CLOZE

_CLOSE, _HINT, _OPEN = "\ue000", "\ue001", 0xE100
_MARKS = re.compile("[\ue000-\uf8ff]")
_COLON = re.compile(f":(?=[:{_HINT}])|(?<=:):")
_BRACES = re.compile(r"([{}])(?=\1)")
_MAX_INDEX = 499


def field(markdown: str) -> str:
    """The HTML of `markdown`, whose deletions read ``{{c1::hidden}}`` or ``{{c1::hidden::hint}}``."""
    marked = CLOZE.sub(_mark, _MARKS.sub("", escape.clean(markdown)))
    return _MARKS.sub(_notation, _disarm(html.inline(marked)))


def _mark(match: re.Match[str]) -> str:
    hint = _HINT + match["hint"] if match["hint"] else ""
    index = min(int(match["index"]), _MAX_INDEX)
    return f"{chr(_OPEN + index)}{match['text']}{hint}{_CLOSE}"


def _disarm(markup: str) -> str:
    """A comment between two braces and entities for two colons: shown as before, but no notation of Anki's."""
    return _COLON.sub("&#58;", _BRACES.sub(r"\1<!-- -->", markup))


def _notation(match: re.Match[str]) -> str:
    mark = match.group()
    return {_CLOSE: "}}", _HINT: "::"}.get(mark) or f"{{{{c{ord(mark) - _OPEN}::"
