"""Running text with marks → paragraphs of Markdown: white space, line breaks, emphasis, escapes, formulas.

HTML ends a line in many ways: ``<div>a</div><div>b</div>`` is two lines, ``a<br><div>b</div>`` as well, and only a
second ``<br>`` makes the gap of a paragraph. Emphasis may cross all of them; in Markdown it may not, and begins anew.
"""

from __future__ import annotations

import re

from llmquiz.notes import formulas
from llmquiz.notes.emphasis import beside_words
from llmquiz.notes.marks import (
    ATOM,
    BREAK,
    DONE,
    EM,
    EM_END,
    LINE,
    LINK,
    LINK_END,
    LOWERED,
    LOWERED_END,
    PARAGRAPH,
    RAISED,
    RAISED_END,
    STRIKE,
    STRIKE_END,
    STRONG,
    STRONG_END,
    has_any,
)
from llmquiz.notes.neutral import decoded

HARD_BREAK = "\\\n"
_SPECIAL = re.compile(r"[\\`*\[\]$|_<&~!]")
_ENTITY = re.compile("&#?[0-9A-Za-z]{1,32};")
_LINE_START = re.compile(r"^(?:[#>=]|[+-](?=[\s:-]|\Z)|:(?=-)|(?P<number>[0-9]{1,9})(?=[.)](?:\s|\Z)))", re.MULTILINE)
_LINE_STARTERS = frozenset("#>=+-:0123456789")
_SPLIT = re.compile(
    f"([{STRONG}{STRONG_END}{EM}{EM_END}{STRIKE}{STRIKE_END}{LINK_END}{BREAK}{LINE}{PARAGRAPH}]|{LINK}[0-9]*{DONE})"
)
_OPENING = frozenset({STRONG, EM, STRIKE, LINK})
_BREAKS = {BREAK: 1, LINE: 1, PARAGRAPH: 2}
_LINKED = re.compile(f"{LINK}([0-9]*){DONE}([^{LINK_END}]*){LINK_END}")
_ATOM = re.compile(f"{ATOM}([0-9]*){DONE}(?=(.?))", re.DOTALL)
_SMALL = re.compile(f"([{RAISED}{LOWERED}])([^{RAISED}-{LOWERED_END}]*)[{RAISED_END}{LOWERED_END}]")
_SCRIPT = re.compile(f"[{RAISED}-{LOWERED_END}]")
_SCRIPTS = {
    RAISED: str.maketrans("0123456789+-−=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱ"),
    LOWERED: str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎"),
}
_BAR = re.compile(r"\\\||\|")


def paragraphs(text: str, atoms: list[str], *, blocks: bool = True) -> tuple[list[str], list[str]]:
    """The Markdown of running text, and the marks that are still open at its end.

    Args:
        text: neutral HTML text, its tags replaced by marks.
        atoms: what its atoms and links stand for; formulas are added.
        blocks: whether a displayed formula may be a paragraph of its own.
    """
    text = formulas.marked(decoded(text), atoms, blocks=blocks)
    if not has_any(text):
        words = " ".join(text.split())
        return ([escaped(words)] if words else []), []
    arranged, still_open = _arranged(_scripts(text))
    return [_written(it, risky, atoms, HARD_BREAK) for it, risky in arranged], still_open


def one_line(text: str, atoms: list[str], glue: str, *, cell: bool = False) -> str:
    """The Markdown of running text on one line, its lines joined by `glue`; in a table's cell bars are kept apart."""
    text = _scripts(formulas.marked(decoded(text), atoms, blocks=False))
    arranged, _ = _arranged(text)
    return glue.join(_written(it, risky, atoms, glue, cell=cell) for it, risky in arranged)


def escaped(text: str) -> str:
    """Plain text as Markdown that reads as exactly this text; newlines begin lines."""
    if _SPECIAL.search(text):
        text = _SPECIAL.sub(_backslashed, text)
    if text[:1] in _LINE_STARTERS or "\n" in text:
        text = _LINE_START.sub(lambda it: f"{it[0]}\\" if it["number"] else f"\\{it[0]}", text)
    return text


def _backslashed(match: re.Match[str]) -> str:
    """A character with a backslash before it, if Markdown would act on it where it stands."""
    it, text, after = match[0], match.string, match.string[match.end() : match.end() + 1]
    if it == "_":
        acts = not (after.isalnum() and match.start() and text[match.start() - 1].isalnum())
    elif it == "<":
        acts = after.isalpha() or after in ("/", "!", "?")
    elif it == "&":
        acts = _ENTITY.match(text, match.start()) is not None
    elif it == "~":
        acts = after in ("~", STRIKE, STRIKE_END) or text[match.start() - 1 : match.start()] == STRIKE
    elif it == "!":
        acts = after in (LINK, ATOM)
    else:
        acts = True
    return f"\\{it}" if acts else it


def _scripts(text: str) -> str:
    """Superscripts and subscripts as small characters, or in brackets after a sign."""
    if not _SCRIPT.search(text):
        return text
    depth = 0

    def shown(match: re.Match[str]) -> str:
        nonlocal depth
        if match[0] in _SCRIPTS:
            depth += 1
            return "^(" if match[0] == RAISED else "_("
        depth -= 1
        return ")" if depth >= 0 else ""

    return _SCRIPT.sub(shown, _SMALL.sub(lambda match: _script(match[1], match[2]), text))


def _script(mark: str, text: str) -> str:
    if not text.strip():
        return text
    if all(ord(it) in _SCRIPTS[mark] for it in text):
        return text.translate(_SCRIPTS[mark])
    sign = "^" if mark == RAISED else "_"
    return f"{sign}{text}" if len(text) == 1 else f"{sign}({text})"


def _arranged(text: str) -> tuple[list[tuple[str, bool]], list[str]]:
    """Paragraphs whose marks are nested and have no space inside; a newline is a line break. And the marks still open.

    Each with whether a mark touches something else than a letter or a digit.
    """
    done: list[tuple[str, bool]] = []
    out: list[str] = []
    opened: list[str] = []  # marks whose text has begun
    waiting: list[str] = []  # marks whose text has not
    nested = dict.fromkeys(_OPENING, -1)  # how often a mark was begun again inside itself; -1 if it is not open
    breaks, space, is_mark, risky = 0, False, True, False
    for part in _SPLIT.split(text):
        is_mark = not is_mark
        if is_mark:
            if (kind := part[0]) in _OPENING:
                nested[kind] += 1
                if not nested[kind]:
                    waiting.append(part)
            elif kind in _BREAKS:
                breaks = max(breaks, _BREAKS[kind]) if kind != BREAK else breaks + 1
            elif nested[kind := chr(ord(kind) - 1)] >= 0:
                nested[kind] -= 1
                if nested[kind] < 0 and not _drop(waiting, kind):
                    risky = risky or not out[-1][-1].isalnum()
                    _close(opened, kind, out, nested)
        elif words := " ".join(part.split()):
            if breaks > 1 and out:
                done.append((_joined(out, opened), risky))
                out, waiting, opened, risky = [], [*opened, *waiting], [], False
            elif breaks and out:
                out.append("\n")
            elif out and (space or part[0].isspace()):
                out.append(" ")
            if waiting:
                risky = risky or not words[0].isalnum()
                _open(waiting, out)
                opened += waiting
                waiting = []
            out.append(words)
            breaks, space = 0, part[-1].isspace()
        elif part:
            space = True
    if out:
        done.append((_joined(out, opened), risky or bool(opened)))
    return done, [*opened, *waiting]


def _drop(waiting: list[str], kind: str) -> bool:
    """Forget a mark that ends before its text began; False if it has begun."""
    for index, mark in enumerate(waiting):
        if mark[0] == kind:
            del waiting[index]
            return True
    return False


def _close(opened: list[str], kind: str, out: list[str], nested: dict[str, int]) -> None:
    """End the mark `kind`, and those that began inside it: Markdown has no overlapping marks."""
    while opened:
        mark = opened.pop()
        out.append(chr(ord(mark[0]) + 1))
        nested[mark[0]] = -1
        if mark[0] == kind:
            return


def _open(marks: list[str], out: list[str]) -> None:
    """Begin marks; where the same one has just ended, it goes on."""
    for mark in marks:
        if out and mark[0] != LINK and out[-1] == chr(ord(mark[0]) + 1):
            out.pop()
        else:
            out.append(mark)


def _joined(out: list[str], opened: list[str]) -> str:
    return "".join([*out, *[chr(ord(mark[0]) + 1) for mark in reversed(opened)]] if opened else out)


def _written(text: str, risky: bool, atoms: list[str], hard_break: str, *, cell: bool = False) -> str:
    if risky:
        text = beside_words(text)
    text = escaped(text)
    if "\n" in text:
        text = text.replace("\n", hard_break)
    if not has_any(text):
        return text
    for mark, shown in ((STRONG, "**"), (EM, "*"), (STRIKE, "~~")):
        if mark in text:
            text = text.replace(mark, shown).replace(chr(ord(mark) + 1), shown)
    if LINK in text:
        text = _LINKED.sub(lambda it: _link(it[2], atoms[int(it[1])]), text)
    if ATOM not in text:
        return text
    kept = _without_bars if cell else str
    return _ATOM.sub(lambda it: _untouched(kept(atoms[int(it[1])]), it[2]), text)


def _link(label: str, url: str) -> str:
    return f"<{url}>" if label == url else f"[{label}]({url})"


def _untouched(atom: str, after: str) -> str:
    """An atom, with a space where what follows would join it: a dollar sign before a digit closes no formula."""
    joins = after == ATOM or (atom[0] == "$" and after.isdigit())
    return f"{atom} " if joins and atom[0] in "$`" else atom


def _without_bars(atom: str) -> str:
    if "|" not in atom or atom[0] not in "$`":
        return atom
    if atom[0] == "`":
        return atom.replace("|", r"\|")
    sign = "$$" if atom.startswith("$$") else "$"
    tex = _BAR.sub(lambda it: r"\Vert " if len(it[0]) == 2 else r"\vert ", atom.strip("$"))
    return f"{sign}{tex.rstrip()}{sign}"
