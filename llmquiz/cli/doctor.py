"""`llmquiz doctor`: is everything in order, and if not, what to do."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from llmquiz.core.errors import ExitCode, LlmquizError

GOOD, NOTE, BAD = "ok", "note", "problem"
_SIGNS = {GOOD: "✓", NOTE: "!", BAD: "✗"}
_STYLES = {GOOD: "green", NOTE: "yellow", BAD: "red bold"}
_LITTLE_DISK = 200 * 2**20
_DAY_SECONDS = 86_400
_JOURNALS = {"wal": "keeps a write-ahead log", "delete": "keeps a rollback journal"}
_MOST_NAMED = 3  # files


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    part: str
    verdict: str
    text: str
    advice: str = ""


def doctor(
    repair: Annotated[
        bool, typer.Option("--repair", help="Rebuild a damaged database from what can be read of it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check the environment, the database, decks, labs and devices. Exit code 1 if something is wrong."""
    if repair:
        _repair()
    looks = (_environment, _settings, _terminal, _database, _imported, _media, _decks, _labs, _devices)
    found = [finding for look in looks for finding in look()]
    if as_json:
        print(json.dumps({"findings": [asdict(finding) for finding in found]}, ensure_ascii=False, indent=2))
    else:
        _show(found)
    if any(finding.verdict == BAD for finding in found):
        raise typer.Exit(ExitCode.FINDINGS)


def _show(found: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0), pad_edge=False)
    part = ""
    for finding in found:
        text = Text(finding.text)
        if finding.advice:
            text.append(f"\n→ {finding.advice}", "bold")
        sign = Text(_SIGNS[finding.verdict], _STYLES[finding.verdict])
        table.add_row(Text("" if finding.part == part else finding.part, "dim"), sign, text)
        part = finding.part
    Console(highlight=False).print(table)


def _environment() -> Iterator[Finding]:
    import platform
    import sqlite3
    from importlib.metadata import PackageNotFoundError, version

    from llmquiz import __version__, locations

    yield Finding(
        "llmquiz", GOOD, f"{__version__}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )
    absent = []
    versions = []
    for name in ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "safetensors"):
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            absent.append(name)
    if versions:
        yield Finding("llmquiz", GOOD, ", ".join(versions))
    if absent:
        yield Finding(
            "llmquiz", NOTE, f"not installed: {', '.join(absent)}", "pip install 'llmquiz[labs]' runs every lab"
        )
    yield from _disk(locations.data_dir())


def _disk(folder: Path) -> Iterator[Finding]:
    from llmquiz.store import filesystem

    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    verdict = GOOD if free > _LITTLE_DISK else BAD
    advice = "" if verdict == GOOD else "free some space: a review that cannot be written is refused"
    yield Finding("data", verdict, f"{folder}, {free / 2**30:.1f} GiB free", advice)
    if not os.access(there, os.W_OK):
        yield Finding("data", BAD, f"{there} cannot be written", "make it writable, or set LLMQUIZ_HOME")
    elif not filesystem.locks_work(there):
        yield Finding("data", BAD, f"{there}: files cannot be locked there", "move LLMQUIZ_HOME to another file system")
    if filesystem.is_network(there):
        text = f"{there} lies on a network file system ({filesystem.kind(there)})"
        yield Finding("data", NOTE, f"{text}: the database {_JOURNALS['delete']}, which is slower")


def _settings() -> Iterator[Finding]:
    from llmquiz import locations, settings
    from llmquiz.core.options import Options

    path = locations.settings_file()
    if not path.exists():
        return
    try:
        Options.from_mapping(settings.load().schedule)
    except LlmquizError as error:
        yield Finding("settings", BAD, str(error), "mend the file, or move it away for the defaults")
    else:
        yield Finding("settings", GOOD, str(path))


def _terminal() -> Iterator[Finding]:
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    size = shutil.get_terminal_size()
    kind = os.environ.get("TERM", "unknown")
    colours = "24-bit colour" if os.environ.get("COLORTERM") in ("truecolor", "24bit") else "256 colours or fewer"
    text = f"{kind}, {size.columns}x{size.lines}, {colours}, {encoding or 'no'} encoding"
    if encoding != "utf8":
        yield Finding("terminal", BAD, text, "set a UTF-8 locale, as LANG=C.UTF-8, for Chinese and formulas")
    elif size.columns < 40 or size.lines < 12:
        yield Finding("terminal", NOTE, text, "40x12 is the least; 80x24 is comfortable")
    else:
        yield Finding("terminal", GOOD, text)


def _database() -> Iterator[Finding]:
    from llmquiz import locations
    from llmquiz.core.errors import StoreError
    from llmquiz.store import health

    path = locations.database()
    if not path.is_file():
        yield Finding("database", NOTE, "none yet", "`llmquiz study` makes it")
        return
    try:
        found = health.inspect(path)
    except StoreError as error:
        yield Finding("database", BAD, str(error), "move it away, or choose another LLMQUIZ_HOME")
        return
    for problem in found.problems:
        yield Finding(
            "database", BAD, problem, "`llmquiz doctor --repair` rebuilds it, `llmquiz restore` brings back a copy"
        )
    if not found.problems:
        held = f"{found.reviews} reviews of {found.cards} cards"
        size = f"{found.size / 2**20:.1f} MiB, schema {found.schema}, {_JOURNALS[found.journal]}"
        yield Finding("database", GOOD, f"whole: {held}, {size}")
    yield from _clock(found.last_review_ms)
    yield from _backups(path, found.last_review_ms)


def _clock(answered_ms: int | None) -> Iterator[Finding]:
    ahead = (answered_ms or 0) / 1000 - time.time()
    if ahead > _DAY_SECONDS:
        last = f"the last review is of {datetime.fromtimestamp((answered_ms or 0) / 1000):%F %R}, in the future"
        advice = "set this machine's clock; what was answered while it was wrong is asked again soon"
        yield Finding("clock", NOTE, last, advice)


def _backups(path: Path, answered_ms: int | None) -> Iterator[Finding]:
    from llmquiz.store.backup import listing, newest

    backups = {one.path: one for one in listing(path)}
    last = backups.get(newest(path) or Path())
    if last is None:
        yield Finding(
            "backups", NOTE, "none yet", "one is made every day that you study; `llmquiz backup` makes one now"
        )
        return
    yield Finding("backups", GOOD, f"{len(backups)}, the last of {last.at:%F %R}, {last.path}")
    if answered_ms and (datetime.fromtimestamp(min(answered_ms / 1000, time.time())) - last.at).days >= 2:
        yield Finding(
            "backups", BAD, "the last is days older than the last review", "`llmquiz backup` says what hinders it"
        )


def _reading(sql: str) -> list[tuple[Any, ...]]:
    """Rows of the database; none where there is none, or where another look has said that it cannot be read."""
    from llmquiz import locations
    from llmquiz.store import Store
    from llmquiz.store.database import explained

    try:
        with Store.open(read_only=True) as store, explained(locations.database()):
            return store.connection.execute(sql).fetchall()
    except LlmquizError:
        return []


def _imported() -> Iterator[Finding]:
    sql = """SELECT origin, count(DISTINCT deck.id), count(card.id) FROM deck JOIN card ON card.deck = deck.id
    WHERE origin IS NOT NULL AND card.archived_at IS NULL GROUP BY origin ORDER BY origin"""
    for origin, decks, notes in _reading(sql):
        yield Finding("imported", GOOD, f"{notes} notes in {decks} decks from {origin}")


def _media() -> Iterator[Finding]:
    """Files that notes name, against those in the media folder."""
    from llmquiz import locations

    folder = locations.media()
    kept = dict(_reading("SELECT name, bytes FROM media"))
    there = {file.name: file.stat().st_size for file in folder.iterdir() if file.is_file()} if folder.is_dir() else {}
    missing = sorted(name for name in kept if name not in there)
    changed = sorted(name for name in kept if name in there and there[name] != kept[name])
    strange = sorted(there.keys() - kept.keys())
    if kept and not missing and not changed:
        yield Finding("media", GOOD, f"{len(kept)} files, {sum(there.values()) / 2**20:.1f} MiB, {folder}")
    if missing:
        yield Finding("media", BAD, f"missing: {_named(missing)}", "import the file that they came with once more")
    if changed:
        advice = "move them away, then import the file that they came with once more"
        yield Finding("media", BAD, f"of another size than imported: {_named(changed)}", advice)
    if strange:
        yield Finding("media", NOTE, f"no note names {_named(strange)}", f"they may be deleted from {folder}")


def _named(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    shown = ", ".join(name if name.isprintable() else ascii(name) for name in names[:_MOST_NAMED])
    return shown if more <= 0 else f"{shown} and {more} more"


def _decks() -> Iterator[Finding]:
    from llmquiz.deck.finding import errors
    from llmquiz.deck.library import Library

    library = Library()
    decks = library.decks()
    yield Finding("decks", GOOD, f"{len(decks)} with {sum(len(deck.cards) for deck in decks)} cards")
    for finding in errors(library.findings):
        yield Finding("decks", BAD, str(finding), "`llmquiz deck lint` lists all")


def _labs() -> Iterator[Finding]:
    from llmquiz.lab.catalog import Catalog

    catalog = Catalog()
    labs = catalog.labs()
    ready = [lab for lab in labs if not lab.missing]
    yield Finding("labs", GOOD if len(ready) == len(labs) else NOTE, f"{len(ready)} of {len(labs)} can run here")
    for problem in catalog.findings:
        yield Finding("labs", BAD, str(problem))


def _devices() -> Iterator[Finding]:
    from llmquiz.lab.sdk.device import device_name, memory_available, present_devices

    for device in reversed(present_devices()):
        threads = f", {os.cpu_count()} threads" if device == "cpu" else ""
        free = memory_available(device) / 2**30
        yield Finding("devices", GOOD, f"{device}: {device_name(device)}{threads}, {free:.1f} GiB free")


def _repair() -> None:
    from llmquiz import locations
    from llmquiz.store import health

    path = locations.database()
    if not health.inspect(path).problems:
        print("the database is whole; nothing to repair", file=sys.stderr)
        return
    found, moved = health.repair(path)
    if found.problems:
        raise LlmquizError(f"{path}: rebuilt, but {found.problems[0]}; the old files are {', '.join(map(str, moved))}")
    print(
        f"rebuilt with {found.reviews} reviews of {found.cards} cards; the damaged file is {moved[-1]}", file=sys.stderr
    )
