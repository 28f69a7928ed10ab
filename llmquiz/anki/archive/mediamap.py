"""The media map: which of the archive's numbered files is which picture.

Older packages have it in JSON, newer ones in protobuf. A map is small or hostile: `json.loads` builds all of it before
its entries can be counted, so the one shape that a map has, an object of texts, is read entry by entry.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from llmquiz.anki.archive import names
from llmquiz.anki.archive.wire import Message

_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_ENTRY = re.compile(rf"\s*+({_STRING})\s*+:\s*+({_STRING})\s*+([,}}])")
_START = re.compile(r"\s*+\{(\s*+\}\s*+\Z)?")


class Named(NamedTuple):
    """An entry: the name that cards use, the file in the archive, and its size in bytes where the map tells it."""

    name: str
    key: str
    size: int | None


def older(data: bytes, most: int) -> Iterator[Named]:
    """The entries of a JSON map, ``{"0": "picture.png"}``.

    Raises:
        ValueError: if it is no such object or has more than `most` entries.
    """
    text = data.decode("utf-8", "replace")
    start = _START.match(text)
    if not start:
        raise ValueError("it is no JSON object")
    at, end = start.end(), "" if start[1] else ","
    count = 0
    while end == ",":
        match = _ENTRY.match(text, at)
        if not match:
            raise ValueError("it is not an object of texts")
        count += 1
        if count > most:
            raise ValueError(f"more than {most:,} files (limits.files)")
        yield Named(_text(match[2]), _text(match[1]), None)
        at, end = match.end(), match[3]


def newest(data: bytes, most: int) -> Iterator[Named]:
    """The entries of a protobuf map, ``MediaEntries``.

    Raises:
        ValueError: if it is no such message or has more than `most` entries.
    """
    for number, entry in enumerate(Message(data, most=most).messages(1)):
        yield Named(entry.text(1), str(number), entry.unsigned(2))


def usable(named: Iterable[Named], files: Collection[str], findings: list[str]) -> Iterator[Named]:
    """The entries whose name is safe, whose file is there, and that no other entry hides; the others are findings."""
    tally = names.Tally(findings)
    seen: set[str] = set()
    for name, key, size in named:
        flat = names.media(name)
        if flat is None:
            tally.add("left out, no file may have such a name", f"media {names.shown(name)}")
        elif not (key.isascii() and key.isdecimal()) or key not in files:
            tally.add("left out, the package does not hold it", f"media {names.shown(name)}")
        elif flat.casefold() in seen:
            tally.add("left out, another file differs in case at most", f"media {names.shown(name)}")
        else:
            seen.add(flat.casefold())
            yield Named(flat, key, size)
    tally.flush()


def _text(quoted: str) -> str:
    try:
        return str(json.loads(quoted))
    except json.JSONDecodeError as error:
        raise ValueError("a text of it is no JSON") from error
