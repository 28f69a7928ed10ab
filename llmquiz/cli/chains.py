"""The chains of questions as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from llmquiz.core.card import Lang

if TYPE_CHECKING:
    from llmquiz.deck.chains import Chain
    from llmquiz.deck.topics import Syllabus

_COLUMNS = {Lang.EN: ("asks to", "cards", "topic"), Lang.ZH: ("要求", "卡片", "主题")}
_ASKS: Mapping[Lang, Mapping[str, str]] = {  # in the words of an interviewer
    Lang.EN: {},
    Lang.ZH: {
        "recall": "回忆",
        "derive": "推导",
        "compute": "计算",
        "code": "写代码",
        "debug": "排错",
        "design": "设计",
    },
}


def print_chains(
    chains: Mapping[str, Chain], syllabus: Syllabus, counts: Mapping[str, int], lang: Lang, *, as_json: bool
) -> None:
    """Each chain's links in order: what is asked, of which topic, how many cards there are, and the trap."""
    if as_json:
        print(json.dumps({"chains": _to_json(chains, counts)}, ensure_ascii=False, indent=2))
        return
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    for name, chain in chains.items():
        console.print(Text.assemble((name, "bold"), "  ", chain.titles[lang]))
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        for column in _COLUMNS[lang]:
            table.add_column(column)
        for link in chain.links:
            ask = _ASKS[lang].get(link.ask, link.ask)
            cells = (ask, str(counts.get(link.topic, 0) or "–"), syllabus.topics[link.topic].names[lang])
            table.add_row(*map(Text, cells))
            if link.trap and len(chains) == 1:
                table.add_row("", "", Text("! " + link.trap[lang], "yellow"))
        console.print(Padding(table, (0, 0, 1, 2)))


def _to_json(chains: Mapping[str, Chain], counts: Mapping[str, int]) -> list[dict[str, object]]:
    return [
        {
            "name": name,
            "titles": {lang.value: title for lang, title in chain.titles.items()},
            "links": [
                {
                    "topic": link.topic,
                    "kind": link.ask.value,
                    "trap": None if link.trap is None else {lang.value: text for lang, text in link.trap.items()},
                    "cards": counts.get(link.topic, 0),
                }
                for link in chain.links
            ],
        }
        for name, chain in chains.items()
    ]
