"""`llmquiz export`: take the cards elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmquiz.anki.exporting.evidence import Draw
    from llmquiz.anki.exporting.export import ExportReport
    from llmquiz.anki.exporting.pictures import Labels

app = typer.Typer(help="Take your cards to another program.", no_args_is_help=True)
_SHOWN_NAMES = 3


@app.callback()
def export() -> None:
    """Take your cards to another program."""


@app.command()
def anki(
    decks: Annotated[list[str] | None, typer.Argument(metavar="DECK", help="Decks; all if none is named.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The .apkg file to write.")] = Path("llmquiz.apkg"),
    lang: Annotated[str | None, typer.Option("--lang", help="en, zh or both; your own language by default.")] = None,
    schedule: Annotated[bool, typer.Option("--schedule", help="Also when cards are due, and every review.")] = False,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", help="Only cards added, changed or reviewed since a day: 2026-11-01, or 7d for a week."
        ),
    ] = None,
    sub_decks: Annotated[bool, typer.Option("--sub-decks", help="A deck for each topic below its deck.")] = False,
    no_pictures: Annotated[bool, typer.Option("--no-pictures", help="Leave out the pictures of lab results.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Write decks as an Anki package (.apkg)."""
    from llmquiz import locations
    from llmquiz.anki.exporting.export import Extras
    from llmquiz.anki.exporting.export import export as write
    from llmquiz.anki.exporting.export import since as instant
    from llmquiz.cli.opening import opened
    from llmquiz.cli.progressbar import bar
    from llmquiz.core.card import Lang
    from llmquiz.deck import topics

    with opened(lang) as services, bar("writing") as progress:
        language = services.settings.language
        report = write(
            services.store,
            decks or (),
            out,
            langs=tuple(Lang) if language == "both" else (Lang(language),),
            with_schedule=schedule,
            calendar=services.calendar,
            options=services.options,
            extras=Extras(
                since=None if since is None else instant(since, services.calendar, services.clock()),
                topics={slug: it.names for slug, it in topics.load().topics.items()} if sub_decks else None,
                labels=_labels(),
                draw=None if no_pictures else _draw(),
                media_folder=locations.media(),
                progress=progress,
            ),
        )
    _say(report, with_reviews=schedule, as_json=as_json)
    _warn(report, pictures=not no_pictures)
    typer.echo(f"in Anki: {_advice(schedule)}", err=True)


def _say(report: ExportReport, *, with_reviews: bool, as_json: bool) -> None:
    if as_json:
        import json

        counts = {name: getattr(report, name) for name in ("decks", "notes", "cards", "reviews", "media", "bytes")}
        typer.echo(json.dumps({"path": str(report.path), **counts}, ensure_ascii=False))
        return
    reviews = f", reviews: {report.reviews}" if with_reviews else ""
    media = f", media files: {report.media}" if report.media else ""
    typer.echo(f"{report.path} (decks: {report.decks}, cards: {report.cards}{reviews}{media})")


def _warn(report: ExportReport, *, pictures: bool) -> None:
    if report.undrawn and pictures:
        from llmquiz.lab.catalog import INSTALL

        cards = "1 card" if report.undrawn == 1 else f"{report.undrawn} cards"
        message = f"lab results of {cards} go without pictures, which need matplotlib; {INSTALL}"
        print(f"llmquiz: note: {message}", file=sys.stderr)
    if report.missing:
        more = f" and {len(report.missing) - _SHOWN_NAMES} more" if len(report.missing) > _SHOWN_NAMES else ""
        names = ", ".join(report.missing[:_SHOWN_NAMES])
        print(f"llmquiz: note: files that notes name are not in the media folder: {names}{more}", file=sys.stderr)


def _advice(schedule: bool) -> str:
    if not schedule:
        return "File > Import"
    return (
        "File > Import, tick 'Import any learning progress' and 'Import any deck presets'; "
        "then switch on FSRS in the options of the deck"
    )


def _draw() -> Draw | None:
    """What makes pictures; None where the packages of the labs are missing, or only on their way."""
    from importlib.util import find_spec

    from llmquiz.anki.exporting.pictures import draw
    from llmquiz.lab.catalog import pending_setup

    return None if pending_setup() or find_spec("matplotlib") is None else draw


def _labels() -> Callable[[str], Labels | None]:
    """What the manifests say about curves and numbers, in English: read when the first card asks for it."""
    from functools import cache

    from llmquiz.anki.exporting.pictures import Labels
    from llmquiz.core.card import Lang
    from llmquiz.lab.catalog import Catalog

    catalog = cache(Catalog)

    def labels(lab: str) -> Labels | None:
        manifest = catalog().manifests().get(lab)
        if manifest is None:
            return None
        units = {name: metric.unit for name, metric in manifest.metrics.items()}
        title, plot = manifest.title.get(Lang.EN, lab), manifest.plot
        if plot is None:
            return Labels(title, units=units)
        return Labels(title, plot.metric, plot.x, plot.title.get(Lang.EN, ""), plot.log, units)

    return labels
