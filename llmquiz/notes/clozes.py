"""Cloze deletions as Anki reads them: nested, several numbers to one, hints, and what is not closed.

A card asks for every deletion that bears its number, alone or among others (``{{c1,2::…}}``); a field that has none of
that number is not shown at all. The first ``::`` inside a deletion begins its hint: ``{{c1::std::vector}}`` hides std.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from llmquiz.notes.marks import STRONG, STRONG_END

MAX_DEPTH = 10  # as in Anki; the marks of a deeper one vanish, its text stays
_TOKEN = re.compile(r"\{\{c([0-9][0-9,]{0,63})::|\}\}")
SHAPE = "image-occlusion:"


@dataclass(slots=True)
class Deletion:
    """A hidden part; `parts` is HTML with further deletions in it."""

    numbers: frozenset[int]
    opening: str
    parts: list[str | Deletion] = field(default_factory=list)
    hint: str = ""


def parse(html: str) -> list[str | Deletion]:
    """The text of a field and its deletions. One that is never closed is text. Linear in the length of `html`."""
    top: list[str | Deletion] = []
    opened: list[Deletion] = []
    position = 0
    for match in _TOKEN.finditer(html):
        _add(html[position : match.start()], opened, top)
        position = match.end()
        if match[1] is None:
            if not opened:
                top.append("}}")
            else:
                deletion = opened.pop()
                (opened[-1].parts if opened else top).append(deletion)
        elif len(opened) < MAX_DEPTH:
            opened.append(Deletion(frozenset(int(it) for it in match[1].split(",") if it), match[0]))
    _add(html[position:], opened, top)
    for deletion in opened:
        top += [deletion.opening, *deletion.parts]
        if deletion.hint:
            top.append(f"::{deletion.hint}")
    return top


@lru_cache(maxsize=1)
def numbers(html: str) -> frozenset[int]:
    """The numbers of a field's deletions, as `parse` reads them; cards of a note ask for them one after the other."""
    found: set[str] = set()
    opened: list[str] = []
    for token in _TOKEN.findall(html):
        if not token:
            if opened:
                found.update(opened.pop().split(","))
        elif len(opened) < MAX_DEPTH:
            opened.append(token)
    return frozenset([int(it) for it in found if it])


def shown(parts: Iterable[str | Deletion], number: int, *, question: bool) -> str:
    """The HTML of card `number`: its deletions as bold gaps, or in bold; empty if the field has none of them."""
    pieces = list(parts)
    return "".join(_pieces(pieces, number, question)) if any(True for _ in _active(pieces, number)) else ""


def only(parts: Iterable[str | Deletion], number: int, *, question: bool) -> str:
    """The deletions of card `number` alone, parted by commas."""
    return ", ".join((it.hint or "...") if question else plain(it.parts) for it in _active(parts, number))


def plain(parts: Iterable[str | Deletion]) -> str:
    """The HTML with every deletion shown and none marked."""
    return "".join(_pieces(parts, -1, False))


def filled(html: str) -> str:
    """The HTML with every deletion shown and none marked, hidden areas of pictures left out; as `plain`, but sooner."""
    pieces = _TOKEN.split(html)
    out = [pieces[0]]
    depth = 0
    for number, text in zip(pieces[1::2], pieces[2::2], strict=True):
        if number is not None:
            depth = min(depth + 1, MAX_DEPTH)
        elif depth:
            depth -= 1
        else:
            out.append("}}")
        if not depth:
            out.append(text)
        elif not text.startswith(SHAPE):
            out.append(text.partition("::")[0])
    return plain(parse(html)) if depth else "".join(out)


def shapes(parts: Iterable[str | Deletion]) -> list[tuple[int, float, float]]:
    """The hidden areas of an image occlusion note: number, and where its middle is, in shares of width and height."""
    found: list[tuple[int, float, float]] = []
    for it in parts:
        if isinstance(it, Deletion) and it.parts and isinstance(text := it.parts[0], str) and text.startswith(SHAPE):
            facts = dict(word.partition("=")[::2] for word in text.split(":"))
            x, y = (_share(facts, *names) for names in (("left", "width", "rx"), ("top", "height", "ry")))
            found += [(number, x, y) for number in it.numbers]
    return found


def _share(facts: dict[str, str], start: str, size: str, radius: str) -> float:
    try:
        middle = float(facts[start]) + (float(facts[size]) / 2 if size in facts else float(facts.get(radius, "0")))
    except (KeyError, ValueError):
        return -1.0
    return min(max(middle, 0.0), 1.0) if middle == middle else -1.0


def _add(text: str, opened: list[Deletion], top: list[str | Deletion]) -> None:
    if not text:
        return
    if not opened:
        top.append(text)
        return
    text, separator, hint = text.partition("::")
    if text:
        opened[-1].parts.append(text)
    if separator:
        opened[-1].hint = hint


def _pieces(parts: Iterable[str | Deletion], number: int, question: bool) -> Iterator[str]:
    for it in parts:
        if isinstance(it, str):
            yield it
        elif number not in it.numbers:
            yield from _pieces(it.parts, number, question)
        elif question:
            yield f"{STRONG}[{it.hint.strip() or '...'}]{STRONG_END}"
        else:
            yield STRONG
            yield from _pieces(it.parts, number, question)
            yield STRONG_END


def _active(parts: Iterable[str | Deletion], number: int) -> Iterator[Deletion]:
    for it in parts:
        if isinstance(it, Deletion):
            if number in it.numbers:
                yield it
            yield from _active(it.parts, number)
