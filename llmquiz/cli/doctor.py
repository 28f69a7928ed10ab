"""`llmquiz doctor`: is everything in order, and if not, what to do."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from llmquiz.core.errors import ExitCode, LlmquizError

GOOD, NOTE, BAD = "ok", "note", "problem"
_SIGNS = {GOOD: "✓", NOTE: "!", BAD: "✗"}
_STYLES = {GOOD: "green", NOTE: "yellow", BAD: "red bold"}
_LITTLE_DISK = 200 * 2**20
_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "afs", "lustre")


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
    found = [finding for look in (_environment, _terminal, _database, _decks, _labs, _devices) for finding in look()]
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
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    verdict = GOOD if free > _LITTLE_DISK else BAD
    advice = "" if verdict == GOOD else "free some space: a review that cannot be written is refused"
    yield Finding("data", verdict, f"{folder}, {free / 2**30:.1f} GiB free", advice)
    if not os.access(there, os.W_OK):
        yield Finding("data", BAD, f"{there} cannot be written", "make it writable, or set LLMQUIZ_HOME")
    if (kind := _file_system(there)) in _NETWORK:
        advice = "study on one machine at a time: SQLite's log is not shared over a network; or move LLMQUIZ_HOME"
        yield Finding("data", NOTE, f"{there} lies on a network file system ({kind})", advice)


def _file_system(folder: Path) -> str:
    """The kind of the file system that holds the folder, where Linux tells it."""
    mounts = Path("/proc/self/mounts")
    if not mounts.is_file():
        return ""
    place, best, kind = folder.resolve(), -1, ""
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        _, point, name, *_ = line.split()
        root = Path(point.replace("\\040", " "))
        if place.is_relative_to(root) and len(root.parts) > best:
            best, kind = len(root.parts), name
    return kind


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
    from llmquiz.store import health
    from llmquiz.store.backup import listing

    path = locations.database()
    if not path.is_file():
        yield Finding("database", NOTE, "none yet", "`llmquiz study` makes it")
        return
    found = health.inspect(path)
    for problem in found.problems:
        yield Finding(
            "database", BAD, problem, "`llmquiz doctor --repair` rebuilds it, `llmquiz restore` brings back a copy"
        )
    if not found.problems:
        held = f"{found.reviews} reviews of {found.cards} cards"
        yield Finding("database", GOOD, f"whole: {held}, {found.size / 2**20:.1f} MiB, schema {found.schema}")
    backups = listing(path)
    if not backups:
        yield Finding(
            "backups", NOTE, "none yet", "one is made every day that you study; `llmquiz backup` makes one now"
        )
        return
    last = backups[-1]
    yield Finding("backups", GOOD, f"{len(backups)}, the last of {last.at:%F %R}, {last.path}")
    answered = found.last_review_ms
    if answered and (datetime.fromtimestamp(answered / 1000) - last.at).days >= 2:
        yield Finding(
            "backups", BAD, "the last is days older than the last review", "`llmquiz backup` says what hinders it"
        )


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
