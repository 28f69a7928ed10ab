"""`llmquiz import`: bring cards and progress from another program; first shown, then asked, then done.

What is shown is no estimate: the same merge runs in a transaction that is rolled back. Who says yes beforehand is
spared that, and sees the same report of what was done.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmquiz.core.errors import UsageError

if TYPE_CHECKING:
    from llmquiz.store.incoming import Incoming, IntakeReport
    from llmquiz.tui.services import Services

app = typer.Typer(help="Bring cards and progress from another program.", no_args_is_help=True)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="Report as JSON.")]

_LABEL = "before-import"
_COUNTED = ("decks", "notes", "cards", "reviews", "media")


@app.callback()
def import_() -> None:
    """Bring cards and progress from another program."""


@app.command()
def anki(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An .apkg or .colpkg file.", show_default=False)],
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Import notes, decks, media, schedules and every answer from Anki.

    In Anki: File > Export, with scheduling information and media. Importing the same file again changes nothing; a
    later file of the same collection adds what is new.
    """

    def read() -> AbstractContextManager[Incoming]:
        from llmquiz import settings
        from llmquiz.anki.archive.limits import Limits
        from llmquiz.anki.importing.arriving import arriving
        from llmquiz.core.day import Calendar
        from llmquiz.core.options import Options

        chosen = settings.load()
        options, calendar = Options.from_mapping(chosen.schedule), Calendar(chosen.rollover_hour)
        return arriving(file, Limits.from_mapping(chosen.limits), calendar=calendar, options=options)

    run(read, dry_run=dry_run, yes=yes, as_json=as_json)


def run(read: Callable[[], AbstractContextManager[Incoming]], *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Show what `read` would bring; then, with a yes, copy the database and merge.

    Args:
        read: opens the file; called for the look, and once more for the import.

    Raises:
        UsageError: if a yes is needed and nobody is there to give one.
        LlmquizError: if the file cannot be read or the store not written; then nothing was changed.
    """
    from llmquiz.cli.opening import opened

    with opened() as services:
        if dry_run or not yes:
            planned = _merged(services, read, dry_run=True)
            if not as_json:
                _print_report(planned, dry_run=dry_run)
            elif dry_run or planned.nothing:
                print(_to_json(planned, None, dry_run=dry_run))
            if dry_run or planned.nothing:
                return
            if not _confirmed():
                print("nothing was changed", file=sys.stderr)
                raise typer.Exit(1)
        done, copy = _imported(services, read)
    if as_json:
        print(_to_json(done, copy, dry_run=False))
        return
    if yes:
        _print_report(done, dry_run=False)
    if copy is not None:
        print(f"imported\nto take it back: llmquiz restore {copy.name}")


def _imported(
    services: Services, read: Callable[[], AbstractContextManager[Incoming]]
) -> tuple[IntakeReport, Path | None]:
    """Merge, with a copy of the database as it was; the copy goes if nothing was changed."""
    from llmquiz.store import backup

    copy = backup.make(services.store.connection, services.store.path, label=_LABEL)
    changed = False
    try:
        done = _merged(services, read, dry_run=False)
        changed = not done.nothing
    finally:
        if not changed:
            copy.unlink(missing_ok=True)
    return done, copy if changed else None


def _merged(services: Services, read: Callable[[], AbstractContextManager[Incoming]], *, dry_run: bool) -> IntakeReport:
    import time

    from llmquiz import locations
    from llmquiz.cli.progressbar import bar
    from llmquiz.store.intake import merge

    what = "looking" if dry_run else "importing"
    with read() as incoming, bar(what, incoming.num_notes) as advance:
        return merge(
            services.store,
            incoming,
            calendar=services.calendar,
            now=time.time(),
            dry_run=dry_run,
            media_folder=locations.media(),
            progress=advance,
        )


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        raise UsageError("importing needs a yes; add --yes, or --dry-run to only look")
    return typer.confirm("Import it?")


def _print_report(report: IntakeReport, *, dry_run: bool) -> None:
    """Counts before and after, what becomes of the notes, and what cannot be carried over."""
    if report.nothing:
        print("nothing to import: all of it is here already")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    counts = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False)
    counts.add_column("")
    for name in ("now", "after", ""):
        counts.add_column(name, justify="right")
    for name in _COUNTED:
        before, after = getattr(report.before, name), getattr(report.after, name)
        gained = Text("=", "dim") if after == before else Text(f"{after - before:+,}", "green bold")
        counts.add_row(name, f"{before:,}", f"{after:,}", gained)
    console.print(counts)
    unchanged = report.notes_unchanged
    console.print(f"\nnotes: {report.notes_added:,} new, {report.notes_changed:,} changed, {unchanged:,} as they were")
    if report.schedules_changed:
        console.print(f"cards that take over a newer schedule: {report.schedules_changed:,}")
    if report.cards_renewed:
        console.print(f"cards of which only what Anki keeps besides is new: {report.cards_renewed:,}")
    if report.findings:
        console.print(Text("\nnot carried over as it was", "bold"))
        lines = Table.grid(padding=(0, 1))
        for finding in report.findings:
            lines.add_row("·", Text(finding))
        console.print(lines)
    console.print()
    if dry_run:
        print("nothing was changed; without --dry-run this is imported", file=sys.stderr)


def _to_json(report: IntakeReport, copy: Path | None, *, dry_run: bool) -> str:
    """The report as one object. `imported` tells a plan from a deed; `backup` is None if nothing was changed."""
    from dataclasses import asdict

    fields: dict[str, Any] = asdict(report)
    deed = {"imported": copy is not None, "dry_run": dry_run, "nothing": report.nothing}
    fields |= {"findings": list(report.findings), "backup": None if copy is None else str(copy)}
    return json.dumps(deed | fields, ensure_ascii=False, indent=2)
