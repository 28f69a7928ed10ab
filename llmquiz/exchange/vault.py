"""An Obsidian vault as the spaced-repetition plugin sees it: its settings, and which notes hold cards of which deck.

The plugin reads cards only from notes with a flashcard tag, since ``::`` stands in many a text that is no card. A tag
on a line of its own holds for the cards below it, down to the next such line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmquiz.deck.reading import printable
from llmquiz.exchange.clozemarks import BOLD, CURLY, HIGHLIGHT, Pattern, pattern
from llmquiz.exchange.gather import Findings

SETTINGS = Path(".obsidian/plugins/obsidian-spaced-repetition/data.json")
_TAG = re.compile(r"(?<!\S)#(?P<name>[^\s#,;.:!?'\"()\[\]{}<>|`]+)")
_LARGEST = 1 << 24
_LONGEST_MARK = 20
_FRONT_KEY = re.compile(r"(?P<key>[A-Za-z][\w-]*)[ \t]*:(?P<value>.*)")
_NOTE_SCHEDULE = "sr-due"


@dataclass(frozen=True, slots=True)
class Plugin:
    """The plugin's settings, as far as they say what a card is.

    Attributes:
        inline, both: what parts question and answer in a line, and for cards that are asked both ways.
        below, below_both: the same as a line of its own.
        end: the line that ends a card; an empty line if it is empty.
        tags: without ``#``; a note's tag may go on below it.
        folders: whether folders are the decks, and every note has cards.
    """

    inline: str = "::"
    both: str = ":::"
    below: str = "?"
    below_both: str = "??"
    end: str = ""
    tags: tuple[str, ...] = ("flashcards",)
    folders: bool = False
    patterns: tuple[Pattern, ...] = field(default_factory=lambda: _patterns([HIGHLIGHT]))

    def deck(self, tag: str) -> str | None:
        """The deck of a tag, levels joined by ``::``; None if it is no flashcard tag."""
        for root in self.tags:
            if tag == root:
                return root
            if tag.startswith(f"{root}/"):
                return "::".join(level for level in tag[len(root) :].split("/") if level) or root
        return None


def tags_of(line: str) -> list[str]:
    """The tags in a line of text, without ``#``; a number is none."""
    names = (match["name"].strip("/") for match in _TAG.finditer(line)) if "#" in line else ()
    return [name for name in names if name.strip("0123456789/")]


def vault_of(path: Path) -> Path | None:
    """The vault that `path` lies in; None if there is none."""
    place = path.absolute()
    return next((it for it in (place, *place.parents) if (it / ".obsidian").is_dir()), None)


def plugin_of(vault: Path | None, findings: Findings) -> Plugin:
    """The settings of the plugin in `vault`, the defaults where it has none."""
    file = vault / SETTINGS if vault else None
    if file is None or not file.is_file():
        return Plugin()
    try:
        if file.stat().st_size > _LARGEST:
            raise ValueError("too large")
        data = json.loads(file.read_text(encoding="utf-8"))
        values = data["settings"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        findings.add(printable(str(file)), f"cannot be read ({reason}); the plugin's own defaults are used")
        return Plugin()
    if not isinstance(values, dict):
        return Plugin()
    if isinstance(stored := data.get("scheduleData"), dict) and stored.get("cardSchedules"):
        findings.add(printable(str(file)), "schedules outside of the notes are not read; those cards come in as new")
    return _plugin(values, printable(str(file)), findings)


def _plugin(values: Mapping[str, Any], name: str, findings: Findings) -> Plugin:
    plain = Plugin()
    tags = [tag.strip().strip("#") for tag in _texts(values.get("flashcardTags"))]
    written = _texts(values.get("clozePatterns"))
    if "clozePatterns" not in values:
        switches = {"convertHighlightsToClozes": HIGHLIGHT, "convertBoldTextToClozes": BOLD}
        switches["convertCurlyBracketsToClozes"] = CURLY
        written = [mark for key, mark in switches.items() if values.get(key, mark is HIGHLIGHT)]
    for it in written:
        if pattern(it) is None:
            findings.add(name, f"cloze pattern '{it[:40]}' is not understood; its cards are left out")
    return Plugin(
        inline=_mark(values, "singleLineCardSeparator", plain.inline),
        both=_mark(values, "singleLineReversedCardSeparator", plain.both),
        below=_mark(values, "multilineCardSeparator", plain.below),
        below_both=_mark(values, "multilineReversedCardSeparator", plain.below_both),
        end=_mark(values, "multilineCardEndMarker", plain.end),
        tags=tuple(tag for tag in tags if tag) or plain.tags,
        folders=values.get("convertFoldersToDecks") is True,
        patterns=_patterns(written),
    )


def _patterns(written: Sequence[str]) -> tuple[Pattern, ...]:
    return tuple(found for found in map(pattern, written) if found)


def _texts(value: object) -> list[str]:
    return [it[:200] for it in value[:50] if isinstance(it, str)] if isinstance(value, list) else []


def _mark(values: Mapping[str, Any], key: str, default: str) -> str:
    value = values.get(key)
    return value.strip()[:_LONGEST_MARK] if isinstance(value, str) else default


@dataclass(frozen=True, slots=True)
class FrontMatter:
    """The YAML at the start of a note.

    Attributes:
        lines: how many it takes, with its marks.
        has_schedule: whether the whole note is under review, not only its cards.
    """

    lines: int = 0
    tags: tuple[str, ...] = ()
    has_schedule: bool = False


def front_matter(lines: Sequence[str]) -> FrontMatter:
    """The front matter of a note: of YAML no more than lists of tags, as Obsidian writes them."""
    if not lines or lines[0].rstrip() != "---":
        return FrontMatter()
    end = next((number for number, line in enumerate(lines[1:], start=1) if line.rstrip() == "---"), None)
    if end is None:
        return FrontMatter()
    tags: list[str] = []
    key, has_schedule = "", False
    for line in lines[1:end]:
        if match := _FRONT_KEY.match(line):
            key = match["key"].lower()
            has_schedule = has_schedule or key == _NOTE_SCHEDULE
            items = match["value"].strip().strip("[]").replace(",", " ").split()
        else:
            items = line.strip().removeprefix("-").split()
        if key in ("tags", "tag"):
            tags += [item.strip("\"'#") for item in items]
    return FrontMatter(end + 1, tuple(tag for tag in tags if tag), has_schedule)
