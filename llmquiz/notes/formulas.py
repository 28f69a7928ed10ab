r"""Formulas and sounds in the text of a field: MathJax's ``\(…\)``, Anki's own ``[latex]``, ``[$]``, ``[sound:…]``.

Anki stores formulas as HTML, so that line breaks and bold type inside one are marks by now, not TeX. Between dollar
signs ours may hold no blank line, no dollar sign and no space at either end.
"""

from __future__ import annotations

import re

from llmquiz.notes.marks import ATOM, DONE, PARAGRAPH, strip

_INSIDE = rf"(?:[^\\{PARAGRAPH}]|\\(?![()\[\]]).)*+"
_ITEM = re.compile(
    rf"\\\((?P<inline>{_INSIDE})\\\)|\\\[(?P<display>{_INSIDE})\\\]"
    r"|\[\$\](?P<old>(?:(?!\[/?\$\]).)*+)\[/\$\]|\[\$\$\](?P<olddisplay>(?:(?!\[/?\$\$\]).)*+)\[/\$\$\]"
    r"|\[[lL][aA][tT][eE][xX]\](?P<latex>(?:(?!\[/?(?i:latex)\]).)*+)\[/(?i:latex)\]"
    r"|\[sound:(?P<sound>[^\[\]\n]{1,300})\]|\[anki:(?:play|tts)[^\[\]\n]{0,300}\]|\[/anki:tts\]",
    re.DOTALL,
)
_START = re.compile(r"\\[(\[]|\[(?:\$|latex\]|sound:|/?anki:)", re.IGNORECASE)
_DOCUMENT = re.compile(r"\\documentclass.*?\\begin\{document\}|\\end\{document\}", re.DOTALL)
_DISPLAY = re.compile(
    r"\$\$(?P<a>.*)\$\$|\\\[(?P<b>.*)\\\]|\\begin\{(?P<env>displaymath|equation\*?)\}(?P<c>.*)\\end\{(?P=env)\}"
    r"|(?P<d>\\begin\{(?:align|gather|multline|eqnarray)\*?\}.*)",
    re.DOTALL,
)
_INLINE = re.compile(r"(?<!\\)(\$\$?)([^$]+)\1")
_ENVIRONMENT = re.compile(r"\\(begin|end)\{(?:align|eqnarray|(gather))\*?\}")
_COMMENT = re.compile(r"(?<!\\)%[^\n]*")
_LIKE_A_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_DOLLAR = re.compile(r"(?<!\\)\$")
_TICKS = re.compile("`+")


def marked(text: str, atoms: list[str], *, blocks: bool) -> str:
    """`text` with each formula as an atom and each sound by its name.

    Args:
        atoms: gets the formulas as Markdown.
        blocks: a displayed formula is a paragraph of its own.
    """
    if ("\\" not in text and "[" not in text) or not _START.search(text):
        return text

    def item(match: re.Match[str]) -> str:
        kind = match.lastgroup
        if kind is None:
            return ""
        inside = strip(match[kind])
        if kind == "sound":
            return f"♪ {inside}"
        if kind == "latex":
            return _latex(inside, atoms, blocks)
        return atom(inside, atoms, display=blocks and "display" in kind)

    return _ITEM.sub(item, text)


def atom(tex: str, atoms: list[str], *, display: bool) -> str:
    """The mark of a formula, whose Markdown is added to `atoms`."""
    tex = _tidy(tex)
    if not tex:
        return ""
    if _DOLLAR.search(tex):
        atoms.append(code(tex))
        display = False
    else:
        atoms.append(f"$${tex}$$" if display else f"${tex}$")
    mark = f"{ATOM}{len(atoms) - 1}{DONE}"
    return f"{PARAGRAPH}{mark}{PARAGRAPH}" if display else mark


def code(source: str) -> str:
    """`source` as a code span of Markdown, on one line."""
    source = " ".join(source.split())
    runs = {len(run) for run in _TICKS.findall(source)} if "`" in source else set()
    ticks = "`" * next(size for size in range(1, len(runs) + 2) if size not in runs)
    padding = " " if source[:1] == "`" or source[-1:] in ("`", "\\") else ""
    return f"{ticks}{padding}{source}{padding}{ticks}" if source else ""


def _tidy(tex: str) -> str:
    if "\n" in tex and "%" in tex:
        tex = _COMMENT.sub("", tex)
    if "\\begin" in tex:
        tex = _ENVIRONMENT.sub(lambda it: rf"\{it[1]}{{{'gathered' if it[2] else 'aligned'}}}", tex)
    tex = _LIKE_A_TAG.sub("< ", " ".join(tex.split()))
    slashes = len(tex) - len(tex.rstrip("\\"))
    return tex[:-1].rstrip() if slashes % 2 else tex


def _latex(source: str, atoms: list[str], blocks: bool) -> str:
    """A whole LaTeX text: one formula, words with formulas, or what only LaTeX can set, which stays as code."""
    source = _DOCUMENT.sub("", source).strip()
    if match := _DISPLAY.fullmatch(source):
        tex = next(match[name] for name in "abcd" if match[name] is not None)
        if not _DOLLAR.search(tex):
            return atom(tex, atoms, display=blocks)
    if "\\" in _INLINE.sub("", source):
        atoms.append(code(source))
        return f"{ATOM}{len(atoms) - 1}{DONE}"
    return _INLINE.sub(lambda it: atom(it[2], atoms, display=blocks and len(it[1]) == 2), source)
