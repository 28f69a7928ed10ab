"""Which encoding a text file is in: by its byte order mark, else what decodes all of it, the surest first.

UTF-8 proves itself, because other text hardly ever decodes as it. GB18030 proves nothing: it decodes most of the text
of Western Europe into rare characters. It is believed only where nearly all that is not ASCII are characters of the
first level of GB2312 (the 3,755 most frequent) and Chinese punctuation.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from llmquiz.core.errors import ImportFileError, UsageError

_MARKS = (  # the longer first: UTF-32 starts as UTF-16 does
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_READ = 256 * 1024
_HEAD = 4096
_BEYOND_ASCII = re.compile(rb"[\xa1-\xfe][\xa1-\xfe]|[\x80-\xff][\x30-\xff]?")
_EVERYDAY = re.compile(rb"[\xa1\xa3\xb0-\xd7][\xa1-\xfe]")
_EVERYDAY_SHARE = 0.9


def detect(path: Path) -> str:
    """The name of the encoding of the file at `path`, one that Python knows.

    Raises:
        ImportFileError: if it is none of UTF-8, UTF-16, UTF-32 and GB18030, or no text at all.
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    guess = next((name for mark, name in _MARKS if head.startswith(mark)), None) or _without_mark(head)
    problem = _first_problem(path, guess)
    if problem is None:
        return guess
    line, rest = problem
    if guess == "utf-8" and _is_chinese(rest) and _first_problem(path, "gb18030") is None:
        return "gb18030"
    raise ImportFileError(
        f"{path}:{line}: neither UTF-8, UTF-16 nor GB18030; name its encoding, e.g. --encoding cp1252 or big5"
    )


def check(path: Path, encoding: str) -> str:
    """`encoding`, if the file is in it.

    Raises:
        UsageError: if there is no such encoding of text.
        ImportFileError: if the file has something else.
    """
    try:
        b"".decode(encoding)
        problem = _first_problem(path, encoding)
    except (LookupError, UnicodeError, ValueError) as error:
        raise UsageError(f"encoding '{encoding}' is not known; try utf-8, utf-16, gb18030, big5 or cp1252") from error
    if problem:
        raise ImportFileError(f"{path}:{problem[0]}: not in {encoding}; leave out --encoding, or name another")
    return encoding


def _without_mark(head: bytes) -> str:
    """UTF-16 shows by the zeros of its ASCII characters, all in odd or all in even places."""
    odd, even = head[1::2].count(0), head[::2].count(0)
    if max(odd, even) > 4 * min(odd, even) and 4 * max(odd, even) > len(head):
        return "utf-16-le" if odd > even else "utf-16-be"
    return "utf-8"


def _first_problem(path: Path, encoding: str) -> tuple[int, bytes] | None:
    """The line of the first bytes that are not in `encoding`, and the bytes from there on; None if all are."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    with path.open("rb") as file:
        while True:
            data = file.read(_READ)
            try:
                line += decoder.decode(data, final=not data).count("\n")
            except UnicodeDecodeError as error:
                return line + error.object.count(b"\n", 0, error.start), error.object[error.start :]
            except UnicodeError:
                return line, b""
            if not data:
                return None


def _is_chinese(data: bytes) -> bool:
    high = _BEYOND_ASCII.findall(data)
    everyday = sum(1 for code in high if _EVERYDAY.fullmatch(code))
    return bool(high) and everyday >= _EVERYDAY_SHARE * len(high)
