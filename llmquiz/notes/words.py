"""The words of a note without its markup: one line that stands for it in lists, and all of them for the search index.

Neither is rendered: an import needs the first of ten thousand notes, and templates show the same field on every card.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from llmquiz.notes import clozes, formulas
from llmquiz.notes.marks import ATOM, DONE
from llmquiz.notes.neutral import decoded, neutral
from llmquiz.notes.tags import TAG, attributes

_LONGEST = 200
_WINDOWS = (400, 2_000, 16_000)  # characters of a field that are looked at, as long as they hold too few words
_MARKUP = re.compile(r"[<&\[{\\]")
_SOUND = re.compile(r"\[sound:[^\[\]\n]{1,300}(?:\]|\Z)")
_ATOM = re.compile(f"{ATOM}([0-9]*){DONE}")
_MEDIA = frozenset({"img", "audio", "video", "source", "embed"})
_PARTS_NOTHING = (
    "b strong mark i em u ins cite dfn var s del strike sup sub span font small big abbr label wbr bdi bdo time ruby "
    "rb q nobr a code kbd samp tt"
)
_IN_PLACE = {**dict.fromkeys(_PARTS_NOTHING.split(), ""), "rt": " ", "anki-mathjax": "$"}  # of tags; others end a line


def front(fields: Sequence[str], sort_field: int, otherwise: str) -> str:
    """One line of plain text, of at most 200 characters, that stands for a note; formulas stay TeX.

    Args:
        fields: their HTML; of a long one only the beginning counts.
        sort_field: index of the field to look at first.
        otherwise: what stands there if no field has words.
    """
    if sort_field < len(fields) and (text := _line(fields[sort_field])):
        return text
    for field in fields:
        if text := _line(field):
            return text
    return _short(" ".join(neutral(otherwise[: _WINDOWS[0]]).split()))


def words(fields: str) -> str:
    """All of a note's words, each line once: deletions filled in, names of pictures and sounds among them.

    Args:
        fields: HTML, joined by U+001F.
    """
    lines: list[str] = []
    for field in fields.split("\x1f"):
        text = neutral(field)
        lines += (_text(text, names=True) if _MARKUP.search(text) else text).split("\n")
    return "\n".join(dict.fromkeys(filter(None, map(str.strip, lines))))


def _line(field: str) -> str:
    """A field's words on a line, cut to what is shown; empty if it has none."""
    line = ""
    for size in _WINDOWS:
        is_all = len(field) <= size
        text = neutral(field if is_all else field[:size])
        if _MARKUP.search(text):
            text = _text(text if is_all else _closed(text), names=False)
        line = " ".join(text.split())
        if is_all or len(line) > _LONGEST:
            break
    return _short(line)


def _short(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1].rstrip()}…"


def _closed(html: str) -> str:
    """The beginning of a field, without a tag that it ends in, its deletions closed."""
    if (start := html.rfind("<")) > html.rfind(">"):
        html = html[:start]
    return html + "}}" * clozes.MAX_DEPTH if "{{c" in html else html


def _text(html: str, *, names: bool) -> str:
    """The text of neutral HTML; `names`: of pictures and sounds as well."""
    if "{{c" in html:
        html = clozes.filled(html)
    text = _without_tags(html, names) if "<" in html else html
    if not names and "[sound:" in text:
        text = _SOUND.sub(" ", text)
    text = decoded(text)
    if "[" not in text and "\\" not in text:
        return text
    atoms: list[str] = []
    text = formulas.marked(text, atoms, blocks=False)
    return _ATOM.sub(lambda match: atoms[int(match[1])], text) if atoms else text


def _without_tags(html: str, names: bool) -> str:
    parts = TAG.split(html)
    out = [parts[0]]
    for name, source, end, text in zip(parts[3::6], parts[4::6], parts[5::6], parts[6::6], strict=True):
        if end:
            name = name.lower()
            out.append(_called(source, names) if name in _MEDIA else _IN_PLACE.get(name, "\n"))
        elif name:
            out.append(f"<{name}{source}")
        out.append(text)
    return "".join(out)


def _called(source: str, names: bool) -> str:
    """What a picture or a sound is called."""
    found = attributes(source)
    called = found.get("alt") or found.get("title") or ""
    name = found.get("src", "").strip() if names else ""
    return f" {called} " if name[:5].lower() == "data:" else f" {called} {name} "
