"""From bytes to text that is safe to show: size, encoding, and characters that could steer a terminal or hide text.

A deck may come from anybody. Escape sequences would let a card repaint or reprogram the terminal, bidirectional
overrides would show something else than the card says; both are refused here, so that no room behind has to care. They
are refused in disguise too: as character references, and in the percent code of addresses, which renderers of Markdown
decode for the reader's comfort.
"""

from __future__ import annotations

import html
import re
import stat
from pathlib import Path
from urllib.parse import unquote

from llmquiz.core.errors import Place
from llmquiz.deck.finding import Finding

MAX_BYTES = 4 * 1024 * 1024
MAX_LINE = 10_000  # characters
MAX_LINES = 200_000
_MAX_REPORTED = 20  # a binary file has one problem, not a million

_FORBIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_ENTITY = re.compile(r"&#?[0-9A-Za-z]{1,32};")
_PERCENT = re.compile(r"(?:%[0-9A-Fa-f]{2})+")


def read(path: Path) -> tuple[str | None, list[Finding]]:
    """The text of a deck file with ``\\n`` line ends, or None and the reasons why it cannot be used."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None, [_file_finding(path, "not a regular file; put a Markdown file there")]
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        return None, [_file_finding(path, f"cannot be read: {(error.strerror or 'unknown reason').lower()}")]
    if len(data) > MAX_BYTES:
        return None, [_file_finding(path, f"larger than {MAX_BYTES // 2**20} MiB; split the deck")]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return None, [Finding(Place(path, line), "F01", "not UTF-8 text; save the file as UTF-8")]
    text = text.replace("\r\n", "\n")
    findings = problems_of(text, path)
    return (None if findings else text), findings


def problems_of(text: str, path: Path) -> list[Finding]:
    """Lines that are too long, or hold characters (also written as entities) that a terminal must not see."""
    if (lines := text.count("\n")) > MAX_LINES:
        return [_file_finding(path, f"{lines:,} lines; at most {MAX_LINES:,}: split the deck")]
    findings: list[Finding] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if problem := _line_problem(line):
            findings.append(Finding(Place(path, number), "F01", problem))
            if len(findings) == _MAX_REPORTED:
                break
    return findings


def has_forbidden(text: str) -> bool:
    """Whether `text` holds a control or bidirectional character."""
    return _FORBIDDEN.search(text) is not None


def printable(text: str) -> str:
    """`text` with every such character spelled out, e.g. a file name that is about to be printed."""
    return _FORBIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _line_problem(line: str) -> str | None:
    if len(line) > MAX_LINE:
        return f"line of {len(line):,} characters; at most {MAX_LINE:,}: break it"
    if match := _FORBIDDEN.search(line):
        return f"control character U+{ord(match[0]):04X} at column {match.start() + 1}; delete it"
    if "&" in line:
        for entity in _ENTITY.finditer(line):
            if entity[0].startswith("&#") or _FORBIDDEN.search(html.unescape(entity[0])):
                return f"character reference '{entity[0]}'; write the character itself"
    if "%" in line:
        for code in _PERCENT.finditer(line):
            if _FORBIDDEN.search(unquote(code[0])):
                return f"control character in percent code '{code[0][:60]}'; delete it"
    return None


def _file_finding(path: Path, problem: str) -> Finding:
    return Finding(Place(path, 1), "F01", problem)
