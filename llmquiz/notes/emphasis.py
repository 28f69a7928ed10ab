"""Emphasis that CommonMark reads as such, whatever stands beside it.

``**`` opens nothing between a letter and punctuation, so that ``答案**“是”**的`` shows its asterisks. Punctuation is
moved out of the emphasis then, or a space put before it.
"""

from __future__ import annotations

import re
import unicodedata

from llmquiz.notes.marks import ANY, EM, EM_END, STRONG, STRONG_END

_EMPHASIS = re.compile(f"[{STRONG}-{EM_END}]+")
_FURTHEST = 8  # characters that punctuation is moved, so that a million brackets take no longer than they should


def beside_words(text: str) -> str:
    """`text` with punctuation moved, or spaces put, where the asterisks of an emphasis would show."""
    out: list[str] = []
    position = 0
    for run in _EMPHASIS.finditer(text):
        start, stop, marks = run.start(), run.end(), run[0]
        piece = text[position:start]
        before, after = text[start - 1 : start], text[stop : stop + 1]
        closes = any(it in marks for it in (STRONG_END, EM_END))
        opens = any(it in marks for it in (STRONG, EM))
        trouble_after = opens and _is_mark(after) and _is_word(before)
        trouble_before = closes and _is_mark(before) and _is_word(after)
        position = stop
        if (trouble_after or trouble_before) and opens and closes:
            split = next(i for i, it in enumerate(marks) if it in (STRONG, EM))
            marks = f"{marks[:split]} {marks[split:]}"
        elif trouble_after:
            length = _outside(text[stop : stop + _FURTHEST + 1])
            marks = text[stop : stop + length] + marks if length else " " + marks
            position = stop + length
        elif trouble_before:
            length = _outside(piece[::-1][: _FURTHEST + 1])
            marks = marks + piece[len(piece) - length :] if length else marks + " "
            piece = piece[: len(piece) - length]
        out += [piece, marks]
    out.append(text[position:])
    return "".join(out)


def _outside(text: str) -> int:
    """How many characters at the beginning of `text` are punctuation before a word; 0 if no word follows."""
    for length, it in enumerate(text):
        if it.isspace() or ANY.match(it):
            return 0
        if not _is_mark(it):
            return length
    return 0


def _is_mark(character: str) -> bool:
    """Whether CommonMark may take it for punctuation; a formula may begin with any."""
    return character != "" and (unicodedata.category(character)[0] in "PS" or ANY.match(character) is not None)


def _is_word(character: str) -> bool:
    """Whether CommonMark may take it for a letter."""
    if not character or character.isspace():
        return False
    return unicodedata.category(character)[0] != "P" and character not in "$+<=>^`|~"
