"""`llmquiz backup` and `llmquiz restore`: copies of your cards' schedules, reviews and runs, and the way back."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmquiz.core.errors import UsageError

if TYPE_CHECKING:
    from llmquiz.store.health import Health

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def backup(
    list_: Annotated[bool, typer.Option("--list", help="List the backups instead.")] = False, as_json: AsJson = False
) -> None:
    """Copy the database; one copy a day is made anyway.

    Copies are thinned as they age: the newest five stay, then one a day for two weeks, one a week for two months and
    one a month for a year.
    """
    from llmquiz import locations
    from llmquiz.store import Store
    from llmquiz.store.backup import listing

    path = locations.database()
    if not list_:
        with Store.open(read_only=True) as store:
            made = store.backup()
        print(made if not as_json else json.dumps(_fields(made), indent=2))
        return
    found = [one.path for one in reversed(listing(path))]
    if as_json:
        print(json.dumps({"backups": [_fields(file) for file in found]}, indent=2))
        return
    for file in found:
        fields = _fields(file)
        print(f"{fields['at']}  {_size(int(str(fields['bytes']))):>9}  {file}")
    if not found:
        print("no backups yet", file=sys.stderr)


def restore(
    source: Annotated[
        Path | None, typer.Argument(help="A backup's file, or its name; default: the newest.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Bring back a backup; the present database is copied first, so that this can be taken back, too."""
    from llmquiz import locations
    from llmquiz.core.errors import StoreError
    from llmquiz.store import health
    from llmquiz.store.migrations import LATEST

    path = locations.database()
    chosen = _chosen(source, path)
    then = health.inspect(chosen)
    if then.problems:
        raise StoreError(f"{chosen}: is damaged ({then.problems[0]}); choose another, `llmquiz backup --list` has them")
    if then.schema > LATEST:
        raise StoreError(f"{chosen}: was written by a newer llmquiz; update llmquiz")
    now = health.inspect(path, thorough=False) if path.is_file() else None
    print(f"backup    {_told(then)}  {chosen}")
    print(f"present   {_told(now) if now else 'none'}  {path}")
    if now and not now.problems and now.reviews > then.reviews:
        print(f"          {now.reviews - then.reviews} reviews made since then are only in the copy made before")
    if dry_run:
        return
    if not yes and not _confirmed():
        print("nothing was changed", file=sys.stderr)
        raise typer.Exit(1)
    print(f"restored; before it: {_restore(chosen, path, now)}")


def _restore(chosen: Path, path: Path, now: Health | None) -> str:
    """Restore, and say where the present database is now."""
    from llmquiz.store import Store
    from llmquiz.store import backup as backups

    if now is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        before = "there was none"
    elif now.problems:
        moved = backups.set_aside([path.with_name(path.name + end) for end in ("-wal", "-shm", "")])
        before = ", ".join(map(str, moved))
    else:
        with Store.open(read_only=True) as store:
            before = str(backups.make(store.connection, path, label="before-restore"))
    backups.restore(chosen, path)
    Store.open().close()  # an older schema is brought up to date at once
    return before


def _chosen(source: Path | None, path: Path) -> Path:
    from llmquiz.store.backup import folder, newest

    if source is None:
        found = newest(path)
        if found is None:
            raise UsageError(f"there are no backups in {folder(path)} yet; `llmquiz backup` makes one")
        return found
    for candidate in (source, folder(path) / source.name):
        if candidate.is_file():
            return candidate
    raise UsageError(f"there is no backup '{source}'; `llmquiz backup --list` has them")


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        raise UsageError("restoring needs a yes; add --yes, or --dry-run to only look")
    return typer.confirm("Restore it?")


def _told(health: Health) -> str:
    if health.problems:
        return f"damaged: {health.problems[0]}"
    last = "never" if health.last_review_ms is None else f"{datetime.fromtimestamp(health.last_review_ms / 1000):%F %R}"
    return f"{health.reviews} reviews of {health.cards} cards, the last {last}"


def _fields(file: Path) -> dict[str, object]:
    stat = file.stat()
    return {"path": str(file), "at": f"{datetime.fromtimestamp(stat.st_mtime):%F %T}", "bytes": stat.st_size}


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
