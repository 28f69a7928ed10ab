"""`llmquiz search`: find cards by their words, in both languages; the headless twin of the search screen."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmquiz.core.card import Lang
    from llmquiz.store.records import SearchHit


def search(
    query: Annotated[str, typer.Argument(help="Words in English or Chinese, a card's id, a topic.")],
    limit: Annotated[int, typer.Option(min=1, help="At most so many cards.")] = 20,
    lang: Annotated[str | None, typer.Option(help="en, zh or both.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find cards by their words; study one with `llmquiz study --card ID`."""
    from llmquiz.cli.opening import opened
    from llmquiz.study.words import shown

    with opened(lang) as services:
        hits = services.store.search(query, limit)
        if as_json:
            typer.echo(json.dumps({"cards": [_fields(hit) for hit in hits]}, ensure_ascii=False, indent=2))
            return
        for hit in hits:
            typer.echo(_line(hit, shown(services.settings.language)))
        if not hits:
            typer.echo(f"no card has '{query}'; try fewer or other words", err=True)


def _line(hit: SearchHit, langs: tuple[Lang, ...]) -> str:
    from llmquiz.deck.plain import one_line

    fronts = [hit.fronts[lang] for lang in langs if lang in hit.fronts] or list(hit.fronts.values())[:1]
    marks = " (suspended)" if hit.suspended else ""
    return f"{hit.card_id} [{hit.deck}]{marks}: {' / '.join(one_line(front) for front in fronts)}"


def _fields(hit: SearchHit) -> dict[str, object]:
    return {
        "id": hit.card_id,
        "deck": hit.deck,
        "kind": hit.kind,
        "fronts": {lang.value: front for lang, front in hit.fronts.items()},
        "suspended": hit.suspended,
        "flag": hit.flag,
    }
