"""Formulas for the terminal: TeX in, Unicode out.

Anki gets the TeX itself, so only macros that MathJax knows are in the subset.
"""

from __future__ import annotations

import re

from llmquiz.deck import tex, texprint
from llmquiz.deck.inline import Part, Segment, segments
from llmquiz.deck.texnodes import MathError, UnknownMacroError

__all__ = ["MathError", "UnknownMacroError", "render_markdown", "to_unicode"]

_SPECIAL = re.compile(r"[\\`*_\[\]<>&~|!#{}$]")
_LEADING = re.compile(r"^(\s*)([+=-]|\d{1,9}[.)])", re.MULTILINE)


def to_unicode(formula: str) -> str:
    r"""The TeX of one formula, without dollar signs, as text: ``\frac{a+b}{c}`` is ``(a + b)/c``.

    Raises:
        UnknownMacroError: if a macro is not in the subset.
        MathError: if the formula cannot be read.
    """
    return texprint.show(tex.parse(formula)).text.strip()


def render_markdown(markdown: str) -> str:
    """`markdown` with every formula outside code as escaped Unicode; one that cannot be read is shown as code."""
    return "".join(_shown(it) for it in segments(markdown))


def escape(text: str) -> str:
    """`text` as Markdown that reads as exactly this text."""
    text = _SPECIAL.sub(lambda match: f"\\{match[0]}", text)
    return _LEADING.sub(lambda match: f"{match[1]}{match[2][:-1]}\\{match[2][-1]}", text)


def _shown(segment: Segment) -> str:
    if segment.part not in (Part.MATH, Part.DISPLAY):
        return segment.source
    try:
        text = to_unicode(segment.text)
    except MathError:
        return _as_code(segment.source)
    return escape(text).replace("\n", "\\\n")


def _as_code(source: str) -> str:
    runs = {len(run) for run in re.findall("`+", source)}
    ticks = "`" * next(size for size in range(1, len(runs) + 2) if size not in runs)
    return f"{ticks} {' '.join(source.split())} {ticks}"
