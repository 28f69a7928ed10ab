"""`llmquiz stats`: what the reviews say, as a page for the terminal or as JSON."""

from __future__ import annotations

from typing import Annotated

import typer


def stats(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON; see docs/json.md.")] = False,
    lang: Annotated[str | None, typer.Option(help="en, zh or both.")] = None,
    days: Annotated[int, typer.Option(min=1, max=365, help="Days of the forecast.")] = 30,
) -> None:
    """Show how well you remember: retention, forecast, activity, hard cards, labs."""
    import json

    from llmquiz.cli.opening import opened
    from llmquiz.study import statistics
    from llmquiz.study.words import interface

    with opened(lang) as services:
        collected = statistics.collect(services.store, services.clock(), services.calendar, services.options, days=days)
        language = interface(services.settings.language)
    if as_json:
        typer.echo(json.dumps(statistics.to_json(collected), ensure_ascii=False, indent=2))
        return
    from rich.console import Console

    from llmquiz.study import statspage

    console = Console(highlight=False)
    console.print(statspage.page(collected, language, console.width))
