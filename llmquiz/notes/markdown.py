r"""The HTML of an Anki field → Markdown of our dialect: safe text, formulas between dollar signs, no HTML left.

Fields are what people pasted: tags that are never closed, lists outside of lists, code in fifty coloured spans. So
nothing here asks for well-formed HTML. One expression finds the tags, each tag becomes a mark in the running text or a
step of `Blocks`, and whatever is not a tag is text. All of it is linear in the length of the field, at any depth.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from urllib.parse import unquote

from llmquiz.notes import formulas, marks
from llmquiz.notes.flow import escaped, paragraphs
from llmquiz.notes.marks import ATOM, BREAK, DONE, LINE, LINK, LINK_END
from llmquiz.notes.neutral import decoded, neutral
from llmquiz.notes.page import STRUCTURE, Page
from llmquiz.notes.tags import MARKS, TAG, address, attributes, is_web, language, safe_url

# Programs show the source of a picture's words: what would need a backslash there is replaced by something alike.
_IN_ALT = str.maketrans("[]`\\<>$|", "()'/‹›＄¦")
_NOT_FLAT = re.compile(r"[/\\:]|\A\.")
_TICKS = re.compile("`{3,}")


def markdown(html: str) -> str:
    r"""`html`, of a field or a card, as Markdown.

    A picture is ``![alt](name)`` if its name has no folder; any other becomes words or a link. Formulas of MathJax and
    of ``[latex]`` stand between dollar signs. Scripts, styles and frames are left out.
    """
    return converted(neutral(html))


def converted(html: str) -> str:
    """`markdown` of neutral HTML, in which bold type may also be given by marks."""
    if "<" not in html:
        return "\n\n".join(paragraphs(html, [])[0])
    parts = TAG.split(html)
    running = _running(parts)
    return _Field().read(parts) if running is None else "\n\n".join(paragraphs(running, [])[0])


def _running(parts: Sequence[str]) -> str | None:
    """The running text of a field without lists, tables, code, links or pictures, as most are; None of any other."""
    running = [parts[0]]
    for slash, name, _, end, text in zip(*(parts[start::6] for start in range(2, 7)), strict=True):
        if name is not None:
            mark = MARKS.get(slash + name)
            if mark is None or not end:
                return None
            running.append(mark)
        running.append(text)
    return "".join(running)


class _Field(Page):
    """A page and what stands in its text: code, links, pictures, sounds and formulas."""

    def __init__(self) -> None:
        super().__init__()
        self._code: int | None = None  # where in `_flow` the code began
        self._is_pre = False
        self._language = ""
        self._formula_end = ""

    def read(self, parts: Sequence[str]) -> str:
        """The Markdown of HTML that `TAG` has split."""
        flow = self._flow
        flow.append(parts[0])
        for slash, name, source, end, text in zip(*(parts[start::6] for start in range(2, 7)), strict=True):
            if name is not None:
                if not end:
                    flow.append(f"<{slash}{name}{source}")
                elif mark := MARKS.get(slash + name):
                    flow.append(mark)
                else:
                    self._tag(f"{slash}{name}".lower(), source)
            if text:
                flow.append(text)
        self._end_code()
        self._end_table()
        self._flush()
        return self._blocks.text()

    def _tag(self, key: str, source: str) -> None:
        mark = MARKS.get(key)
        if mark:
            self._flow.append(mark)
        elif handler := _HANDLERS.get(key):
            if self._code is None or key in _IN_CODE:
                handler(self, source)
            elif key in _LINES_IN_CODE:
                self._flow.append(LINE)

    # Code, links, media

    def _open_code(self, source: str) -> None:
        if self._code is None:
            self._code, self._is_pre, self._language = len(self._flow), False, ""
        self._language = self._language or language(source)

    def _open_pre(self, source: str) -> None:
        if self._code is None and not self._cell:
            self._flush()
        self._open_code(source)
        self._is_pre = True

    def _end_inline_code(self, source: str) -> None:
        if not self._is_pre and self._code is not None:
            self._end_code()

    def _end_pre(self, source: str) -> None:
        if self._is_pre:
            self._end_code()

    def _end_code(self) -> None:
        if self._code is None:
            return
        source = "".join(self._flow[self._code :])
        del self._flow[self._code :]
        self._code = None
        text = "\n".join(line.rstrip() for line in marks.strip(decoded(source)).split("\n")).strip("\n")
        if not text or (self._cell and self._table is not None and self._table.is_gutter):
            return
        is_block = "\n" in text and (self._is_pre or BREAK in source)
        is_inside = self._heading or (self._table is not None and self._table.inner)
        if is_inside or not (is_block or (self._is_pre and not self._cell)):
            self._atom(formulas.code(text))
            return
        was_cell = self._cell
        if was_cell:  # no cell can hold a block: the table goes on below it
            self._end_table()
        self._flush()
        self._blocks.add(_fence(text, self._language))
        if was_cell:
            self._open_table("")
            self._open_cell("")

    def _link(self, source: str) -> None:
        self._flow.append(LINK_END)
        url = safe_url(attributes(source).get("href", ""))
        if url:
            self._atoms.append(url)
            self._flow.append(f"{LINK}{len(self._atoms) - 1}{DONE}")

    def _picture(self, source: str) -> None:
        found = attributes(source)
        name = found.get("src", "").strip()
        if name.lower().startswith("data:"):
            name = ""
        elif "%" in name and not is_web(name):
            name = neutral(unquote(name))
        alt = " ".join((found.get("alt") or found.get("title") or name or "[picture]").split())
        if self._code is not None or not name or (_NOT_FLAT.search(name) and not safe_url(name)):
            self._flow.append(_as_html(alt))
        elif url := safe_url(name):
            self._atom(f"[{escaped(alt)}]({url})")
        else:
            self._atom(f"![{alt.translate(_IN_ALT)}]({address(name)})")

    def _media(self, source: str) -> None:
        name = attributes(source).get("src", "")
        if name and not name.lower().startswith("data:"):
            self._flow.append(_as_html(f"{LINE}♪ {name}{LINE}"))

    def _formula(self, source: str) -> None:
        display = attributes(source).get("block", "") == "true"
        self._flow.append(r"\[" if display else r"\(")
        self._formula_end = r"\]" if display else r"\)"

    def _end_formula(self, source: str) -> None:
        self._flow.append(self._formula_end)
        self._formula_end = ""

    def _atom(self, written: str) -> None:
        if written:
            self._atoms.append(written)
            self._flow.append(f"{ATOM}{len(self._atoms) - 1}{DONE}")


_HANDLERS: dict[str, Callable[[_Field, str], None]] = {
    **STRUCTURE,
    **dict.fromkeys(("code", "kbd", "samp", "tt"), _Field._open_code),
    **dict.fromkeys(("/code", "/kbd", "/samp", "/tt"), _Field._end_inline_code),
    "pre": _Field._open_pre,
    "/pre": _Field._end_pre,
    "a": _Field._link,
    "img": _Field._picture,
    **dict.fromkeys(("audio", "video", "source", "embed"), _Field._media),
    "anki-mathjax": _Field._formula,
    "/anki-mathjax": _Field._end_formula,
}
_IN_CODE = frozenset({"code", "kbd", "samp", "tt", "/code", "/kbd", "/samp", "/tt", "pre", "/pre", "img"})
_LINES_IN_CODE = frozenset({"ul", "ol", "li", "blockquote", "table", "tr", "hr", "h1", "h2", "h3", "h4", "h5", "h6"})


def _fence(text: str, language: str) -> str:
    ticks = "`" * (max((len(run) for run in _TICKS.findall(text)), default=2) + 1)
    return f"{ticks}{language}\n{text}\n{ticks}"


def _as_html(text: str) -> str:
    return text.replace("&", "&amp;")
