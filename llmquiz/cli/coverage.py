"""The coverage of the syllabus as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmquiz.core.card import Frequency, Lang

if TYPE_CHECKING:
    from llmquiz.deck.coverage import Coverage
    from llmquiz.deck.topics import Syllabus

_BAR = 16  # cells
_WORDS = {
    Lang.EN: {
        "area": "area",
        "topics": "covered",
        "cards": "cards",
        "total": "{covered} of {all} topics of the syllabus are covered, and {beyond} of {all_beyond} beyond it:\n"
        "each has an open question and an atomic card.",
        "missing": "still to be written",
        "lacks": "lacks",
        "open": "open question",
        "atomic": "atomic card",
        "topic": "topic",
        "priority": "asked",
        "high": "often",
        "medium": "sometimes",
        "low": "rarely",
    },
    Lang.ZH: {
        "area": "领域",
        "topics": "已覆盖",
        "cards": "卡片",
        "total": "大纲 {all} 个主题已覆盖 {covered} 个，大纲之外 {all_beyond} 个已覆盖 {beyond} 个：\n"
        "各有一道开放题和一张原子卡。",
        "missing": "尚待编写",
        "lacks": "缺少",
        "open": "开放题",
        "atomic": "原子卡",
        "topic": "主题",
        "priority": "频率",
        "high": "高",
        "medium": "中",
        "low": "低",
    },
}


def print_coverage(syllabus: Syllabus, found: Sequence[Coverage], lang: Lang, *, as_json: bool) -> None:
    """Areas with a bar each, then what is missing, most asked first."""
    if as_json:
        print(json.dumps(_to_json(syllabus, found), ensure_ascii=False, indent=2))
        return
    from rich.console import Console

    words, console = _WORDS[lang], Console(highlight=False)
    console.print(_areas(syllabus, found, lang))
    counts = [_count(found, beyond=beyond) for beyond in (False, True)]
    (covered, of_all), (beyond, of_beyond) = counts
    console.print("\n" + words["total"].format(covered=covered, all=of_all, beyond=beyond, all_beyond=of_beyond))
    order = list(Frequency)
    open_ = sorted((one for one in found if one.lacks), key=lambda one: order.index(one.topic.priority))
    if open_:
        rows = [
            (
                one.slug if lang is Lang.EN else one.topic.names[lang],
                words[one.topic.priority],
                ", ".join(words[name] for name in one.lacks),
            )
            for one in open_
        ]
        console.print(f"\n[bold]{words['missing']}[/bold] ({len(rows)})")
        console.print(_table((words["topic"], words["priority"], words["lacks"]), rows))


def _areas(syllabus: Syllabus, found: Sequence[Coverage], lang: Lang) -> object:
    from llmquiz.deck.coverage import by_area

    words, rows = _WORDS[lang], []
    for area, topics in by_area(found):
        covered = sum(one.covered for one in topics)
        filled = round(_BAR * covered / len(topics))
        bar = "━" * filled + "╌" * (_BAR - filled)
        cards = sum(one.open + one.atomic for one in topics)
        rows.append((syllabus.areas[area][lang], f"{covered} / {len(topics)}", bar, str(cards)))
    return _table((words["area"], words["topics"], "", words["cards"]), rows, right=(1, 3))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> object:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number in right else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _count(found: Sequence[Coverage], *, beyond: bool) -> tuple[int, int]:
    of_kind = [one for one in found if one.topic.beyond is beyond]
    return sum(one.covered for one in of_kind), len(of_kind)


def _to_json(syllabus: Syllabus, found: Sequence[Coverage]) -> dict[str, object]:
    return {
        "areas": {area: {lang.value: name for lang, name in names.items()} for area, names in syllabus.areas.items()},
        "topics": [
            {
                "slug": one.slug,
                "names": {lang.value: name for lang, name in one.topic.names.items()},
                "area": one.topic.area,
                "priority": one.topic.priority.value,
                "beyond": one.topic.beyond,
                "open": one.open,
                "atomic": one.atomic,
                "covered": one.covered,
            }
            for one in found
        ],
    }
