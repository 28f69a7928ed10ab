"""`llmquiz import csv` and `llmquiz import markdown`: cards that stand in text files."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmquiz.cli import importing
from llmquiz.core.errors import UsageError

if TYPE_CHECKING:
    from llmquiz.core.card import Lang
    from llmquiz.store.incoming import Incoming

Language = Annotated[str | None, typer.Option("--lang", help="en or zh; each card's own by default.")]


def csv(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="CSV, TSV or .txt files.", show_default=False)],
    deck: Annotated[str | None, typer.Option("--deck", help="A deck for all cards; :: parts its levels.")] = None,
    columns: Annotated[
        str | None, typer.Option("--columns", help="What the columns are, e.g. front,back,tags,deck,guid,-.")
    ] = None,
    separator: Annotated[
        str | None, typer.Option("--separator", help="comma, semicolon, tab, pipe, colon, space or a character.")
    ] = None,
    encoding: Annotated[str | None, typer.Option("--encoding", help="e.g. cp1252, big5 or shift_jis.")] = None,
    html: Annotated[bool | None, typer.Option("--html/--no-html", help="Fields are HTML.", show_default=False)] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Ask every card both ways.")] = False,
    lang: Language = None,
    dry_run: importing.DryRun = False,
    yes: importing.Yes = False,
    as_json: importing.AsJson = False,
) -> None:
    """Import cards from CSV and TSV files, one a row; Anki's #key:value headers are understood.

    Columns are found by their names (front, back, question, answer, 正面, 背面, tags, deck, ...), else the first is the
    question, the second the answer, and any other stands below the answer.
    """

    def read() -> AbstractContextManager[Incoming]:
        from contextlib import nullcontext

        from llmquiz import settings
        from llmquiz.anki.archive.limits import Limits
        from llmquiz.exchange.csvnotes import Reading
        from llmquiz.exchange.csvnotes import read as read_csv

        names = [name.strip() for name in columns.split(",")] if columns else ()
        how = Reading(deck, names, separator, encoding, html, reverse)
        return nullcontext(read_csv(files, Limits.from_mapping(settings.load().limits), how, lang=_lang(lang)))

    importing.run(read, dry_run=dry_run, yes=yes, as_json=as_json)


def markdown(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH", help="Markdown files, or folders of them.", show_default=False)
    ],
    program: Annotated[
        str | None, typer.Option("--format", help="hashcards or obsidian; what the files look like by default.")
    ] = None,
    deck: Annotated[str | None, typer.Option("--deck", help="A deck for all cards; :: parts its levels.")] = None,
    lang: Language = None,
    dry_run: importing.DryRun = False,
    yes: importing.Yes = False,
    as_json: importing.AsJson = False,
) -> None:
    """Import the cards and schedules of hashcards, or of Obsidian's spaced-repetition plugin."""

    def read() -> AbstractContextManager[Incoming]:
        from llmquiz import settings
        from llmquiz.anki.archive.limits import Limits
        from llmquiz.core.day import Calendar
        from llmquiz.exchange.markdown import read as read_markdown

        chosen = settings.load()
        limits, calendar = Limits.from_mapping(chosen.limits), Calendar(chosen.rollover_hour)
        return read_markdown(paths, limits, calendar, program=program, lang=_lang(lang), deck=deck)

    importing.run(read, dry_run=dry_run, yes=yes, as_json=as_json)


def _lang(name: str | None) -> Lang | None:
    from llmquiz.core.card import Lang

    if name is None:
        return None
    if name not in tuple(Lang):
        raise UsageError(f"--lang '{name}' is not one of {', '.join(Lang)}")
    return Lang(name)
