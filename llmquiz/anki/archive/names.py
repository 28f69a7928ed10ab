"""Names that a stranger chose: of media files, decks, note types and tags, made fit for a terminal and a file system.

A name may clear the screen (escape sequences), show "gnp.exe" as "exe.png" (bidirectional controls), climb out of its
folder, or mean a device on Windows. A deck may lose such characters; a media file with one is left out, since a card
would not find it under another name.
"""

from __future__ import annotations

import re
import unicodedata

from llmquiz.notes.neutral import neutral

MOST = 500
"""Characters of a deck's, note type's or tag's name."""
_MOST_RAW = 10 * MOST
_MOST_BYTES = 255
_SHOWN = 60
# C0 and C1 controls, line separators, Unicode's Bidi_Control, the byte order mark, invisible tags, lone surrogates.
_UNSAFE = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\U000e0000-\U000e007f"
_UNFIT = re.compile(rf'[{_UNSAFE}\ud800-\udfff/\\:*?"<>|]')
_BREAK = re.compile(r"[\t\n]")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])(?:\..*)?", re.IGNORECASE)


def clean(name: str, *, absent: str = "unnamed") -> str:
    """`name` as one line of at most 500 characters that steers no terminal; `absent` if nothing is left."""
    return _BREAK.sub(" ", neutral(name[:_MOST_RAW])).strip()[:MOST].strip() or absent


def shown(name: str) -> str:
    """`name` as a message quotes it."""
    kept = clean(name, absent="")
    return f"'{kept}'" if len(kept) <= _SHOWN else f"'{kept[: _SHOWN - 1]}…'"


def media(name: str) -> str | None:
    """`name` as a flat file name that every system can hold, in Unicode's composed form; None if it is none."""
    flat = unicodedata.normalize("NFC", name)
    if not flat or _UNFIT.search(flat) or len(flat.encode()) > _MOST_BYTES:
        return None
    if flat[-1] in ". " or flat[0] == " " or _RESERVED.fullmatch(flat):
        return None
    return flat


class Tally:
    """Findings of one kind as one line, with the first example and how many more there are. Told once, if read twice.

    Args:
        lines: where `flush` adds them.
    """

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._found: dict[str, tuple[str, int]] = {}

    def add(self, kind: str, example: str, count: int = 1) -> None:
        first, counted = self._found.get(kind) or (clean(example), 0)
        self._found[kind] = first, counted + count

    def flush(self) -> None:
        """Write the lines; a second call does not repeat them."""
        for kind, (example, count) in self._found.items():
            more = f" and {count - 1:,} more" if count > 1 else ""
            line = f"{example}{more}: {kind}"
            if line not in self._lines:
                self._lines.append(line)
        self._found.clear()
