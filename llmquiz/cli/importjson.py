"""`llmquiz import json`: the whole library back from its JSON file, shown first, then asked, then done.

It replaces what is here, as `llmquiz restore` does, and unlike the imports from other programs, which add to it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from llmquiz.core.errors import ImportFileError, UsageError

if TYPE_CHECKING:
    from llmquiz.exchange.libraryfiles import Home
    from llmquiz.exchange.restoring import Arrived

_COUNTED = {
    "decks": "deck",
    "cards": "card",
    "schedules": "schedule",
    "reviews": "review",
    "runs": "run",
    "predictions": "prediction",
    "media": "media",
}


def json(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What `export json` wrote; - is stdin.", show_default=False)
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Bring back the library that `llmquiz export json` wrote, in the place of the present one.

    The present database is copied first, so that this can be taken back with `llmquiz restore`. Your deck files that
    differ are kept beside the new ones.
    """
    from llmquiz import settings
    from llmquiz.anki.archive.limits import Limits
    from llmquiz.cli.progressbar import bar
    from llmquiz.deck.reading import printable
    from llmquiz.exchange.libraryfiles import Home
    from llmquiz.exchange.restoring import arrived

    if not (dry_run or yes or sys.stdin.isatty()):
        raise UsageError("importing needs a yes; add --yes, or --dry-run to only look")
    limits = Limits.from_mapping(settings.load().limits)
    home = Home.present()
    name = "stdin" if file == Path("-") else printable(str(file))
    with _opened(file) as source:
        total = file.stat().st_size if file.is_file() else None
        with ExitStack() as stack:
            with bar("reading", total) as advance:
                new = stack.enter_context(arrived(source, name, home, limits=limits, progress=advance))
            _bring(new, home, dry_run=dry_run, yes=yes, as_json=as_json)


def _bring(new: Arrived, home: Home, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    from llmquiz.exchange.restoring import replace

    before = _present(home.database)
    if not as_json:
        _print_plan(new, before)
    if not dry_run and not yes and not typer.confirm("Replace the present library with it?"):
        print("nothing was changed", file=sys.stderr)
        raise typer.Exit(1)
    copies, moved = ([], []) if dry_run else replace(new, home)
    if as_json:
        print(_to_json(new, before, copies, moved, dry_run=dry_run))
    elif not dry_run:
        for path in moved:
            print(f"kept your own: {path}")
        print(f"imported; {_way_back(copies)}")


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    if file == Path("-"):
        yield sys.stdin.buffer
        return
    try:
        source = file.open("rb")
    except OSError as error:
        raise ImportFileError(f"{file}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    with source:
        yield source


def _present(path: Path) -> dict[str, int] | None:
    """Rows of the present database; None if there is none, or it cannot be read."""
    import sqlite3
    from contextlib import closing

    from llmquiz.exchange.restoring import row_counts

    if not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return row_counts(connection)
    except sqlite3.Error:
        return None


def _print_plan(new: Arrived, before: dict[str, int] | None) -> None:
    """Counts before and after, and what becomes of files."""
    print(f"{'':12}{'now':>10}{'after':>10}")
    for shown, table in _COUNTED.items():
        print(f"{shown:12}{(before or {}).get(table, 0):>10,}{new.rows[table]:>10,}")
    lost = (before or {}).get("review", 0) - new.rows["review"]
    if lost > 0:
        print(f"{lost:,} reviews more than in the file are then only in the copy made before")
    for file in new.files:
        does = "replaces yours, which is kept beside it" if file.replaces else "is added"
        print(f"{file.place.parent.name}/{file.place.name} {does}")
    for finding in new.findings:
        print(finding)


def _way_back(copies: list[Path]) -> str:
    if not copies:
        return "there was no library before"
    if len(copies) == 1 and copies[0].parent.name == "backups":
        return f"'llmquiz restore {copies[0].name}' takes it back"
    return f"the damaged database is kept: {', '.join(map(str, copies))}"


def _to_json(
    new: Arrived, before: dict[str, int] | None, copies: list[Path], moved: list[Path], *, dry_run: bool
) -> str:
    from json import dumps

    report = {
        "imported": not dry_run,
        "dry_run": dry_run,
        "before": None if before is None else {shown: before.get(table, 0) for shown, table in _COUNTED.items()},
        "after": {shown: new.rows[table] for shown, table in _COUNTED.items()},
        "files": [{"path": str(file.place), "replaces": file.replaces} for file in new.files],
        "kept": [str(path) for path in moved],
        "backup": [str(path) for path in copies],
        "findings": new.findings,
    }
    return dumps(report, ensure_ascii=False, indent=2)
