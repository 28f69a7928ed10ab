"""The parts of a card: which headings there are, and how lists, choices and checks are read."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum

from llmquiz.core.card import Check, Choice, Lang
from llmquiz.deck.outline import Block

Report = Callable[[int, str], None]  # line, problem


class Part(StrEnum):
    """A level-3 heading of a card."""

    SYMBOLS = "Symbols"
    KEY_POINTS = "Key points"
    CHOICES = "Choices"
    PITFALL = "Pitfall"
    FOLLOW_UPS = "Follow-ups"
    CHECKS = "Checks"
    SOURCES = "Sources"


CHINESE = {
    Part.SYMBOLS: "符号",
    Part.KEY_POINTS: "要点",
    Part.CHOICES: "选项",
    Part.PITFALL: "误区",
    Part.FOLLOW_UPS: "追问",
    Part.CHECKS: "验算",
    Part.SOURCES: "来源",
}
ENGLISH_ONLY = (Part.FOLLOW_UPS, Part.CHECKS, Part.SOURCES)
_BY_HEADING = {part.value: part for part in Part} | {heading: part for part, heading in CHINESE.items()}

_ITEM = re.compile(r"[-*][ \t]+(.*)$")
_OPTION = re.compile(r"\[([ xX])\][ \t]+(.*)$", re.DOTALL)
_CHECK = re.compile(r"(`+)([^`]+)\1\s*=\s*(\S.*)$", re.DOTALL)


def heading(part: Part, lang: Lang) -> str:
    """How `part` is called in `lang`."""
    return CHINESE[part] if lang is Lang.ZH else part.value


def part_of(name: str) -> Part | None:
    """The part that a heading of either language names."""
    return _BY_HEADING.get(name)


def known() -> str:
    """All headings, for messages."""
    return ", ".join(f"{part.value} / {CHINESE[part]}" for part in Part)


def items(block: Block, report: Report) -> list[tuple[int, str]]:
    """The list of a part: line and text of each item. Indented lines continue an item."""
    found: list[tuple[int, list[str]]] = []
    for number, line in block.numbered():
        if match := _ITEM.match(line):
            found.append((number, [match[1].strip()]))
        elif not line.strip():
            continue
        elif line[0] in " \t" and found:
            found[-1][1].append(line.strip())
        else:
            report(number, f"'{block.heading}' is a list; start the line with '- ', or indent it to go on with an item")
    texts = [(number, "\n".join(lines).strip()) for number, lines in found]
    for number, text in texts:
        if not text:
            report(number, f"empty item under '{block.heading}'; write it or delete it")
    return [(number, text) for number, text in texts if text]


def choices(block: Block, report: Report) -> tuple[Choice, ...]:
    """The options of a choice card; exactly one of them is right."""
    options: list[Choice] = []
    for number, text in items(block, report):
        first, _, why = text.partition("\n")
        match = _OPTION.match(first)
        if match is None or not match[2].strip():
            report(number, "an option is written '- [x] right one' or '- [ ] wrong one'")
        else:
            options.append(Choice(match[2].strip(), match[1] != " ", why))
    right = sum(option.right for option in options)
    if len(options) < 2 or right != 1:
        report(block.line, f"{len(options)} options with {right} right; expected several options, one marked [x]")
    return tuple(options)


def checks(block: Block, report: Report) -> tuple[Check, ...]:
    """The checks of a card, not yet evaluated."""
    found: list[Check] = []
    for number, text in items(block, report):
        if match := _CHECK.match(text):
            found.append(Check(match[2].strip(), " ".join(match[3].split())))
        else:
            report(number, "a check is written '- `expression` = number unit'")
    return tuple(found)
