"""Which program a folder of Markdown cards belongs to: hashcards, or Obsidian with its spaced-repetition plugin.

A program's own folder or database beside the files settles it; else the marks in them are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from itertools import islice
from pathlib import Path

from llmquiz.anki.archive.limits import Limits
from llmquiz.core.card import Lang
from llmquiz.core.day import Calendar
from llmquiz.core.errors import ImportFileError, UsageError
from llmquiz.exchange import hashcards, obsidian
from llmquiz.exchange.folder import walk
from llmquiz.exchange.hashprogress import DATABASE
from llmquiz.exchange.textfile import opened
from llmquiz.exchange.vault import vault_of
from llmquiz.store.incoming import Incoming

PROGRAMS = (hashcards.ORIGIN, obsidian.ORIGIN)
_LOOKED_AT, _LINES = 200, 10_000
_MARKS = ("::", "<!--SR:", "#flashcards")


def read(
    paths: Sequence[Path],
    limits: Limits,
    calendar: Calendar,
    *,
    program: str | None = None,
    lang: Lang | None = None,
    deck: str | None = None,
) -> AbstractContextManager[Incoming]:
    """The cards of `program`, or of the one that the files seem to be written for.

    Raises:
        UsageError: if there is no such program.
        ImportFileError: if the files cannot be read.
    """
    chosen = program or guess(paths, limits)
    if chosen not in PROGRAMS:
        raise UsageError(f"program '{chosen}' is not one of {', '.join(PROGRAMS)}")
    reader = hashcards.read if chosen == hashcards.ORIGIN else obsidian.read
    return reader(paths, limits, calendar, lang=lang, deck=deck)


def guess(paths: Sequence[Path], limits: Limits) -> str:
    """The program that the files are written for."""
    if any(((path if path.is_dir() else path.parent) / DATABASE).is_file() for path in paths):
        return hashcards.ORIGIN
    if any(vault_of(path) for path in paths):
        return obsidian.ORIGIN
    hashed = plugged = 0
    for path in paths:
        folder = walk(path, limits)
        for note in folder.notes[:_LOOKED_AT]:
            with suppress(ImportFileError):  # reported when it is read
                for line in islice(opened(folder.root / note, limits).lines(), _LINES):
                    hashed += line.startswith(("Q:", "C:"))
                    plugged += any(mark in line for mark in _MARKS) or line.strip() in ("?", "??")
    return hashcards.ORIGIN if hashed > plugged else obsidian.ORIGIN
