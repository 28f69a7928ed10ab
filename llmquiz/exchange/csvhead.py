"""What the first lines of a CSV file say about the rest: Anki's ``#key:value`` headers, the separator, the columns.

A header row is one that names a question and an answer; nothing else tells it from a card. Anki's headers go without
one: their columns are counted from 1, and all that have no special meaning are the note's fields in their order.
https://docs.ankiweb.net/importing/text-files.html#file-headers
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple


class Role(Enum):
    """What a column is for."""

    FRONT = "front"
    BACK = "back"
    TAGS = "tags"
    DECK = "deck"
    GUID = "guid"
    NOTETYPE = "notetype"
    NOTHING = "-"
    EXTRA = "extra"  # any other: stands below the answer, under its name


class Column(NamedTuple):
    """A column's role, and its name as the file has it."""

    role: Role
    name: str


_WORDS = {
    Role.FRONT: "front question q term word prompt text 正面 问题 題目 题目 问 词 单词 单字 术语 概念",
    Role.BACK: "back answer a definition meaning translation 背面 反面 答案 回答 答 释义 定义 解释 意思 翻译",
    Role.TAGS: "tags tag labels 标签 标记",
    Role.DECK: "deck 牌组 卡组 记忆库",
    Role.GUID: "guid id uid",
    Role.NOTETYPE: "notetype 笔记类型 笔记模板",
    Role.NOTHING: "- # skip ignore no no. nr index 序号 编号",
}
_ROLES = {word: role for role, words in _WORDS.items() for word in words.split()}
_SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "space": " ", "pipe": "|", "colon": ":"}
SNIFFED = ("\t", "|", ";", ",")
"""The rarer in prose, the earlier."""

_HEADER = re.compile(r"#\s*(?P<key>[A-Za-z][A-Za-z ]*?)\s*:(?P<value>.*)")
_OLD_TAGS = re.compile(r"tags:(?P<value>.*)")
_REFERENCE = re.compile(r"&#?[0-9A-Za-z]{1,32};")  # its semicolon parts nothing
_PADDING = ",;\t|"  # what a spreadsheet appends to short rows
_SPECIAL = {
    "tags column": Role.TAGS,
    "deck column": Role.DECK,
    "guid column": Role.GUID,
    "notetype column": Role.NOTETYPE,
}
_KNOWN = frozenset({"separator", "html", "tags", "columns", "notetype", "deck", "if matches", "match scope"}) | set(
    _SPECIAL
)


@dataclass(slots=True)
class Head:
    """What the lines before the first row say.

    Attributes:
        lines: how many they are.
        separator, html: None if they do not say.
        special: the role of a column by its place, from 0.
        comments: whether rows that start with ``#`` are none.
    """

    lines: int = 0
    separator: str | None = None
    html: bool | None = None
    tags: tuple[str, ...] = ()
    deck: str = ""
    notetype: str = ""
    names: str = ""
    special: dict[int, Role] = field(default_factory=dict)
    comments: bool = False


def read_head(first_lines: Sequence[str]) -> Head:
    """The headers at the start of `first_lines`; comments are skipped."""
    head = Head()
    for line in first_lines:
        line = line.rstrip("\n")
        if match := _HEADER.match(line):
            if match["key"].lower() not in _KNOWN and any(mark in line for mark in SNIFFED):
                break
            _take(head, match["key"].lower(), match["value"])
        elif match := _OLD_TAGS.match(line):
            head.tags += tuple(match["value"].strip(_PADDING).split())
        elif not line.startswith("#") or (not line.startswith("# ") and any(mark in line for mark in SNIFFED)):
            break
        head.lines += 1
    return head


def _take(head: Head, key: str, value: str) -> None:
    head.comments = head.comments or key in _KNOWN
    plain = value.strip(f"{_PADDING} ")
    if key == "separator":
        head.separator = separator(value.strip(" ") or value)
    elif key == "html":
        head.html = {"true": True, "false": False}.get(plain.lower())
    elif key == "tags":
        head.tags += tuple(plain.split())
    elif key == "columns":
        head.names = value
    elif key == "deck":
        head.deck = plain
    elif key == "notetype":
        head.notetype = plain
    elif key in _SPECIAL and plain.isascii() and plain.isdigit() and 1 <= int(plain[:5]) <= 10_000:
        head.special[int(plain[:5]) - 1] = _SPECIAL[key]


def separator(name: str) -> str | None:
    """The separator that `name` means: a word of Anki's, ``\\t``, or the character itself; None if it is none."""
    found = _SEPARATORS.get(name.lower(), {"\\t": "\t"}.get(name, name))
    return found if len(found) == 1 and found not in '"\n\r\0' else None


def sniff(sample: Sequence[str]) -> str:
    """The separator that cuts the lines of `sample` most evenly into two columns or more."""
    sample = [_REFERENCE.sub("", line) for line in sample]
    scores = {mark: _evenness(sample, mark) for mark in SNIFFED}
    best = max(scores.values())
    return next(mark for mark in SNIFFED if scores[mark] == best) if best else ","


def _evenness(sample: Sequence[str], mark: str) -> float:
    """The share of rows that have as many columns as most."""
    if not any(mark in line for line in sample):
        return 0.0
    try:
        widths = [len(row) for row in csv.reader(sample, delimiter=mark) if any(row)]
    except csv.Error:
        return 0.0
    width, count = Counter(widths).most_common(1)[0] if widths else (0, 0)
    return count / len(widths) if width > 1 else 0.0


def columns_of(head: Head, names: Sequence[str], width: int) -> list[Column]:
    """The columns of a file.

    Args:
        names: of its columns, as far as known; those with no special word are the note's fields in order.
        width: how many columns its first row has.

    A second question or answer is an extra column.
    """
    count = max(width, len(names), *(place + 1 for place in head.special), 0)
    columns = [_column(names[place].strip() if place < len(names) else "") for place in range(count)]
    for place, role in head.special.items():
        columns[place] = Column(role, "")
    roles = [column.role for column in columns]
    for place, (role, name) in enumerate(columns):
        if role in (Role.FRONT, Role.BACK) and roles.index(role) < place:
            roles[place], columns[place] = Role.EXTRA, Column(Role.EXTRA, name)
    for role in (Role.FRONT, Role.BACK):
        if role not in roles and Role.EXTRA in roles:
            place = roles.index(Role.EXTRA)
            roles[place] = role
            columns[place] = Column(role, columns[place].name)
    return columns


def names_roles(row: Sequence[str]) -> bool:
    """Whether a row is a header: it names a question and an answer."""
    roles = {_column(name).role for name in row}
    return Role.FRONT in roles and Role.BACK in roles


def _column(name: str) -> Column:
    return Column(_ROLES.get("".join(name.lower().split()), Role.EXTRA), name)
