"""`llmquiz export`: take the cards elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Take your cards to another program.", no_args_is_help=True)


@app.callback()
def export() -> None:
    """Take your cards to another program."""


@app.command()
def anki(
    decks: Annotated[list[str] | None, typer.Argument(metavar="DECK", help="Decks; all if none is named.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The .apkg file to write.")] = Path("llmquiz.apkg"),
    lang: Annotated[str | None, typer.Option("--lang", help="en, zh or both; your own language by default.")] = None,
    schedule: Annotated[bool, typer.Option("--schedule", help="Also when cards are due, and every review.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Write decks as an Anki package (.apkg)."""
    from llmquiz.anki.export import export as write
    from llmquiz.cli.opening import opened
    from llmquiz.core.card import Lang

    with opened(lang) as services:
        language = services.settings.language
        report = write(
            services.store,
            decks or (),
            out,
            langs=tuple(Lang) if language == "both" else (Lang(language),),
            with_schedule=schedule,
            calendar=services.calendar,
            options=services.options,
        )
    if as_json:
        import json

        counts = {name: getattr(report, name) for name in ("decks", "notes", "cards", "reviews", "bytes")}
        typer.echo(json.dumps({"path": str(report.path), **counts}, ensure_ascii=False))
    else:
        reviews = f", reviews: {report.reviews}" if schedule else ""
        typer.echo(f"{report.path} (decks: {report.decks}, cards: {report.cards}{reviews})")
    typer.echo(f"in Anki: {_advice(schedule)}", err=True)


def _advice(schedule: bool) -> str:
    if not schedule:
        return "File > Import"
    return (
        "File > Import, tick 'Import any learning progress' and 'Import any deck presets'; "
        "then switch on FSRS in the options of the deck"
    )
