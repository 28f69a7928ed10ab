"""What a filter of Anki's templates makes of a field: ``{{furigana:Word}}``, ``{{text:Front}}``, ``{{cloze:Text}}``.

Readings stand in brackets after their word, and a space before it parts it from the word in front: ``お 茶[ちゃ]``.
"""

from __future__ import annotations

import re

from llmquiz.notes import clozes
from llmquiz.notes.marks import EM, EM_END, PARAGRAPH
from llmquiz.notes.tags import plain

TYPED = f"{PARAGRAPH}{EM}⌨ type the answer · 输入答案{EM_END}{PARAGRAPH}"
_READING = re.compile(r" ?(?<![^ >\[\]])([^ >\[\]]++)\[(?!sound:)([^\[\]]++)\]")
_READINGS = {"furigana": r"\1(\2)", "kana": r"\2", "kanji": r"\1"}


def applied(name: str, html: str, number: int, *, question: bool, parts: dict[str, list[str | clozes.Deletion]]) -> str:
    """`html` after the filter `name`; an unknown filter changes nothing, as in Anki.

    Args:
        number: of the card, from 1.
        parts: the deletions of texts that were read before.
    """
    if name == "cloze" or name == "cloze-only":
        read = parts.get(html)
        if read is None:
            read = parts[html] = clozes.parse(html)
        if name == "cloze-only":
            return clozes.only(read, number, question=question)
        hidden = occlusion(read, number, question=question) if clozes.SHAPE in html else ""
        return hidden or clozes.shown(read, number, question=question)
    if name == "text":
        return plain(html)
    if name in _READINGS:
        return _READING.sub(_READINGS[name], html)
    return html


def occlusion(parts: list[str | clozes.Deletion], number: int, *, question: bool) -> str:
    """Where a picture is hidden, in words; empty if nothing of a picture is."""
    shapes = clozes.shapes(parts)
    mine = [(x, y) for it, x, y in shapes if it == number]
    if not mine:
        return ""
    count = len({it for it, _, _ in shapes})
    known = [(round(100 * x), round(100 * y)) for x, y in mine if x >= 0 and y >= 0]
    where = "; ".join(f"{x}% from the left, {y}% from the top" for x, y in known)
    wo = "；".join(f"距左 {x}%、距上 {y}%" for x, y in known)
    words = f"hidden area {number} of {count}: {where}" if question else f"area {number}: {where}"
    text = f"{words.rstrip(': ')} · 图中{'遮住的' if question else ''}第 {number} 处：{wo}".rstrip("：")
    return f"{PARAGRAPH}{EM}{text}{EM_END}{PARAGRAPH}"
