"""`llmquiz export csv`, `markdown` and `json`: the whole library with its history, in forms that any program reads."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmquiz.cli.progressbar import bar
from llmquiz.core.errors import UsageError

if TYPE_CHECKING:
    from llmquiz.exchange.libraryjson import LibraryReport

_MOST_FINDINGS = 10

Decks = Annotated[list[str] | None, typer.Argument(metavar="DECK", help="Decks; all if none is named.")]
AsJson = Annotated[bool, typer.Option("--json", help="Report as JSON.")]


def csv(
    decks: Decks = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to make.")] = Path("llmquiz-csv"),
    as_json: AsJson = False,
) -> None:
    """Write cards, schedules, reviews, lab runs and predictions as tables for a spreadsheet (.csv)."""
    from llmquiz.cli.opening import opened
    from llmquiz.exchange import librarycsv

    with opened() as services, bar("writing", librarycsv.count(services.store.connection)) as advance:
        report = librarycsv.export(services.store, decks or (), out, calendar=services.calendar, progress=advance)
    _tell(out, report.rows, report.bytes, (), as_json)


def markdown(
    decks: Decks = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to make.")] = Path("llmquiz-markdown"),
    as_json: AsJson = False,
) -> None:
    """Write every deck as deck files, and the history of its cards beside them, to read without any program."""
    from llmquiz import locations
    from llmquiz.cli.opening import opened
    from llmquiz.exchange import librarymarkdown

    with opened() as services, bar("writing", librarymarkdown.count(services.store.connection)) as advance:
        report = librarymarkdown.export(
            services.store, decks or (), out, calendar=services.calendar, media=locations.media(), progress=advance
        )
    _tell(out, report.counts, report.bytes, report.findings, as_json)


def json(
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write; .json.gz packs it, - is stdout.")] = Path(
        "llmquiz.json"
    ),
    media: Annotated[bool, typer.Option("--media/--no-media", help="Also the media files of imported notes.")] = True,
    as_json: AsJson = False,
) -> None:
    """Write everything to one file, from which `llmquiz import json` restores the library exactly."""
    from llmquiz.exchange import libraryjson
    from llmquiz.exchange.libraryfiles import Home
    from llmquiz.store import Store

    to_stdout = out == Path("-")
    if to_stdout and as_json:
        raise UsageError("--json and --out - both want stdout; choose one")
    with Store.open(read_only=True) as store, bar("writing", libraryjson.count(store.connection)) as advance:
        target = sys.stdout.buffer if to_stdout else out
        report = libraryjson.export(store.connection, target, Home.present(), with_media=media, progress=advance)
    if to_stdout:
        _print_findings(report.findings)
    else:
        _tell(out, _counts(report), report.bytes, report.findings, as_json)


def _counts(report: LibraryReport) -> dict[str, int]:
    rows = report.rows
    counted = {"cards": rows["card"], "reviews": rows["review"], "runs": rows["run"], "media": report.media}
    return {"decks": rows["deck"], **counted, "deck_files": report.decks}


def _tell(out: Path, counts: dict[str, int], size: int, findings: Any, as_json: bool) -> None:
    """The report on stdout, what is not as the user may expect on stderr."""
    if as_json:
        from json import dumps

        print(dumps({"path": str(out), **counts, "bytes": size, "findings": list(findings)}, ensure_ascii=False))
        return
    told = ", ".join(f"{name.replace('_', ' ')}: {number:,}" for name, number in counts.items())
    print(f"{out} ({told})")
    _print_findings(findings)


def _print_findings(findings: Any) -> None:
    for finding in [*findings][:_MOST_FINDINGS]:
        print(f"llmquiz: note: {finding}", file=sys.stderr)
    if (more := len(findings) - _MOST_FINDINGS) > 0:
        print(f"llmquiz: note: and {more} more; --json lists all", file=sys.stderr)
