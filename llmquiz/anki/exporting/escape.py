r"""Text, code and formulas as HTML that neither a browser, nor Anki, nor MathJax reads as anything else.

Anki acts on ``[latex]`` and ``[sound:…]``, MathJax on a literal ``\(``: every ``[`` is written as an entity, and a word
joiner parts the backslash from its bracket. A formula that would become a link or markup is shown as code.
"""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_MATHJAX_START = re.compile(r"\\(?=\(|&#91;)")
_TOUCHING_BRACES = re.compile(r"([{}])(?=\1)")
_UNSAFE_TEX = re.compile(r"\\(?:href|url|class|cssId|style|data|html\w*|require|def|newcommand|let)(?![A-Za-z])")


def clean(markdown: str) -> str:
    """`markdown` without control characters: one of them separates Anki's fields."""
    return markdown if markdown.isprintable() else _CONTROL.sub("", markdown)


def text(plain: str) -> str:
    """Plain text as HTML."""
    return _MATHJAX_START.sub("\\\\\u2060", code(plain))


def code(plain: str) -> str:
    """Plain text for a ``<code>`` element, which MathJax skips."""
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("[", "&#91;")


def math(tex: str, *, display: bool = False) -> str:
    r"""A formula between ``\(…\)`` or ``\[…\]``.

    Braces that touch are set apart, since ``}}`` would end a cloze deletion.
    """
    tex = tex.strip()
    if "\\" in tex and _UNSAFE_TEX.search(tex):
        return f"<code>{code(tex)}</code>"
    if "{{" in tex or "}}" in tex:
        tex = _TOUCHING_BRACES.sub(r"\1 ", tex)
    tex = code(tex)
    return rf"\[{tex}\]" if display else rf"\({tex}\)"
