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
from llmquiz.notes.blocks import Blocks
from llmquiz.notes.flow import escaped, one_line, paragraphs
from llmquiz.notes.marks import ATOM, BREAK, DONE, LINE, LINK, LINK_END, STRONG, STRONG_END
from llmquiz.notes.neutral import decoded, neutral
from llmquiz.notes.tables import Table
from llmquiz.notes.tags import MARKS, TAG, address, attributes, is_web, language, safe_url

# Programs show the source of a picture's words: what would need a backslash there is replaced by something alike.
_IN_ALT = str.maketrans("[]`\\<>$|", "()'/‹›＄¦")
_NOT_FLAT = re.compile(r"[/\\:]|\A\.")
_CLOSING_HASHES = re.compile(r"\s#++\Z")
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
    return _Page().read(parts) if running is None else "\n\n".join(paragraphs(running, [])[0])


def _running(parts: Sequence[str]) -> str | None:
    """The running text of a field without lists, tables, code, links or pictures, as most are; None of any other."""
    text = [parts[0]]
    for index in range(1, len(parts), 6):
        if parts[index + 2] is not None:
            mark = MARKS.get(parts[index + 1] + parts[index + 2])
            if mark is None or not parts[index + 4]:
                return None
            text.append(mark)
        text.append(parts[index + 5])
    return "".join(text)


class _Page:
    """One field on its way. `_flow` is the running text since the last block."""

    def __init__(self) -> None:
        self._blocks = Blocks()
        self._flow: list[str] = []
        self._atoms: list[str] = []
        self._code: int | None = None  # where in `_flow` the code began
        self._is_pre = False
        self._language = ""
        self._heading = 0
        self._table: Table | None = None
        self._cell = False  # whether a cell of it is open
        self._formula_end = ""

    def read(self, parts: Sequence[str]) -> str:
        """The Markdown of HTML that `TAG` has split."""
        flow = self._flow
        flow.append(parts[0])
        for index in range(1, len(parts), 6):
            _, slash, name, source, end, text = parts[index : index + 6]
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

    def _flush(self) -> None:
        """The running text becomes paragraphs, or the heading that is open."""
        if not self._flow:
            return
        text = "".join(self._flow)
        self._flow.clear()
        if not text or text.isspace():
            return
        if self._heading:
            line = one_line(text, self._atoms, " ")
            if line:
                line = f"{line[:-1]}\\#" if _CLOSING_HASHES.search(line) else line
                self._blocks.add(f"{'#' * self._heading} {line}")
            return
        done, still_open = paragraphs(text, self._atoms)
        for it in done:
            self._blocks.add(it)
        self._flow += still_open

    # Structure. Inside a table's cell all of it is lines.

    def _step(self, step: Callable[[], object]) -> None:
        """End the running text and take a step in the blocks; in a cell, begin a line."""
        if self._cell:
            self._flow.append(LINE)
        else:
            self._flush()
            step()

    def _bullets(self, source: str) -> None:
        self._step(lambda: self._blocks.open_list(None))

    def _numbers(self, source: str) -> None:
        start = attributes(source).get("start", "1") if source else "1"
        number = int(start) if start.isascii() and start.isdigit() and len(start) <= 9 else 1
        self._step(lambda: self._blocks.open_list(number))

    def _end_list(self, source: str) -> None:
        self._step(self._blocks.close_list)

    def _item(self, source: str) -> None:
        if not self._cell:
            self._flush()
        if self._cell or not self._blocks.open_item():
            self._flow.append(f"{LINE}• ")

    def _end_item(self, source: str) -> None:
        self._step(self._blocks.close_item)

    def _quote(self, source: str) -> None:
        self._step(self._blocks.open_quote)

    def _end_quote(self, source: str) -> None:
        self._step(self._blocks.close_quote)

    def _rule(self, source: str) -> None:
        self._step(lambda: self._blocks.add("---"))

    def _head(self, level: int) -> None:
        if self._cell:
            self._flow += (LINE, STRONG)
        else:
            self._flush()
            self._heading = level

    def _end_head(self, source: str) -> None:
        if self._cell:
            self._flow += (STRONG_END, LINE)
        else:
            self._flush()
            self._heading = 0

    # Tables are written where they end.

    def _open_table(self, source: str) -> None:
        if self._table is not None:
            self._table.inner += 1
            self._flow.append(LINE)
        else:
            self._flush()
            self._table = Table()

    def _row(self, source: str) -> None:
        if self._table is None or self._table.inner:
            self._flow.append(LINE)
        else:
            self._end_cell()
            self._flush()
            self._table.open_row()

    def _open_cell(self, source: str, *, is_head: bool = False) -> None:
        if self._table is None or self._table.inner:
            self._flow.append(LINE)
            return
        self._end_cell()
        self._flush()
        self._table.open_cell(is_head=is_head, is_gutter="linenos" in source or "gutter" in source)
        self._cell = True

    def _head_cell(self, source: str) -> None:
        self._open_cell(source, is_head=True)

    def _end_cell(self, source: str = "") -> None:
        if self._cell and self._table is not None and not self._table.inner:
            self._cell = False
            self._table.add(one_line("".join(self._flow), self._atoms, " / ", cell=True))
            self._flow.clear()

    def _close_table(self, source: str) -> None:
        if self._table is not None and self._table.inner:
            self._table.inner -= 1
            self._flow.append(LINE)
        else:
            self._end_table()

    def _end_table(self) -> None:
        if self._table is not None:
            self._table.inner = 0
            self._end_cell()
            for block in self._table.blocks():
                self._blocks.add(block)
            self._table = None

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


def _heading(level: int) -> Callable[[_Page, str], None]:
    """Levels 1 to 3 are those of a deck file, so that a heading inside a card begins at 4."""
    return lambda page, source: page._head(min(level + 3, 6))


_HANDLERS: dict[str, Callable[[_Page, str], None]] = {
    "ul": _Page._bullets,
    "ol": _Page._numbers,
    "/ul": _Page._end_list,
    "/ol": _Page._end_list,
    "li": _Page._item,
    "/li": _Page._end_item,
    "blockquote": _Page._quote,
    "/blockquote": _Page._end_quote,
    "hr": _Page._rule,
    **{f"h{level}": _heading(level) for level in range(1, 7)},
    **{f"/h{level}": _Page._end_head for level in range(1, 7)},
    "table": _Page._open_table,
    "/table": _Page._close_table,
    "tr": _Page._row,
    "td": _Page._open_cell,
    "th": _Page._head_cell,
    "/td": _Page._end_cell,
    "/th": _Page._end_cell,
    **dict.fromkeys(("code", "kbd", "samp", "tt"), _Page._open_code),
    **dict.fromkeys(("/code", "/kbd", "/samp", "/tt"), _Page._end_inline_code),
    "pre": _Page._open_pre,
    "/pre": _Page._end_pre,
    "a": _Page._link,
    "img": _Page._picture,
    **dict.fromkeys(("audio", "video", "source", "embed"), _Page._media),
    "anki-mathjax": _Page._formula,
    "/anki-mathjax": _Page._end_formula,
}
_IN_CODE = frozenset({"code", "kbd", "samp", "tt", "/code", "/kbd", "/samp", "/tt", "pre", "/pre", "img"})
_LINES_IN_CODE = frozenset({"ul", "ol", "li", "blockquote", "table", "tr", "hr", "h1", "h2", "h3", "h4", "h5", "h6"})


def _fence(text: str, language: str) -> str:
    ticks = "`" * (max((len(run) for run in _TICKS.findall(text)), default=2) + 1)
    return f"{ticks}{language}\n{text}\n{ticks}"


def _as_html(text: str) -> str:
    return text.replace("&", "&amp;")
