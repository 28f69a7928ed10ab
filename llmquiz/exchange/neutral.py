"""Markdown from anybody, made harmless: no character in it steers a terminal or shows something else than it says.

A character reference is such a character, too: every reader of Markdown turns ``&#8238;`` into an override of the
direction of writing.
"""

from __future__ import annotations

import html
import re

from llmquiz.notes.neutral import neutral

_REFERENCE = re.compile(r"&(?=(#?[0-9A-Za-z]{1,32};))")


def harmless(markdown: str) -> str:
    """`markdown` without such characters; a reference to one is shown as it is written. Twice changes nothing."""
    markdown = neutral(markdown)
    return _REFERENCE.sub(_reference, markdown) if "&" in markdown else markdown


def _reference(match: re.Match[str]) -> str:
    meant = html.unescape(f"&{match[1]}")  # nothing for a number that stands for no character
    return "&" if meant and neutral(meant) == meant else "&amp;"
