"""What every command on the user's cards starts with: settings, the store, and its decks brought up to date."""

from __future__ import annotations

import gc
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from llmquiz.core.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from llmquiz.deck.library import Library
    from llmquiz.store import Store
    from llmquiz.tui.services import Services

_NOTES = "deck notes"
_SHOWN_NOTES = 3


@contextmanager
def opened(lang: str | None = None, new_per_day: int | None = None) -> Iterator[Services]:
    """The user's collection, closed again at the end; decks that cannot be read are named on stderr.

    Args:
        lang, new_per_day: instead of the settings.

    Raises:
        LlmquizError: if the settings, the store or `lang` cannot be used.
    """
    import time

    from llmquiz import settings
    from llmquiz.core.day import Calendar
    from llmquiz.core.options import Options
    from llmquiz.deck.library import Library
    from llmquiz.store import Store
    from llmquiz.tui.services import Services

    chosen = settings.load()
    if lang is not None:
        if lang not in settings.LANGUAGES:
            raise UsageError(f"--lang '{lang}' is not one of {', '.join(settings.LANGUAGES)}")
        chosen = replace(chosen, language=lang)
    options = Options.from_mapping(chosen.schedule)
    if new_per_day is not None:
        options = replace(options, new_per_day=new_per_day)
    library = Library()
    with Store.open() as store:
        for note in _sync(store, library, time.time()):
            print(f"llmquiz: note: {note}", file=sys.stderr)
        gc.freeze()  # what the start has made stays; the collector need not walk it while a learner waits
        with daily_backup(store.path):
            yield Services(store, chosen, options, Calendar(chosen.rollover_hour))


@contextmanager
def daily_backup(path: Path) -> Iterator[None]:
    """Copy the database beside the session, once a day; the session's end waits for the copy, and tells what failed."""
    from llmquiz.core.errors import StoreError
    from llmquiz.store import Store, backup

    failures: list[StoreError] = []

    def copy() -> None:
        try:
            with Store.open(path, read_only=True) as store:
                store.backup()
        except StoreError as error:
            failures.append(error)

    thread = threading.Thread(target=copy, name="daily backup")
    if backup.due(path):
        thread.start()
    try:
        yield
    finally:
        if thread.ident is not None:
            thread.join()
        for failure in failures:
            print(f"llmquiz: note: {failure}", file=sys.stderr)


def _sync(store: Store, library: Library, now: float) -> list[str]:
    """Bring the store in line with the decks; returns what keeps decks from being read, also where no file changed."""
    from llmquiz.deck.finding import errors
    from llmquiz.deck.library import load_into

    if load_into(store, now=now, library=library) is not None:
        notes = [str(finding) for finding in errors(library.findings)]
        if len(notes) > _SHOWN_NOTES:
            more = len(notes) - _SHOWN_NOTES
            notes[_SHOWN_NOTES:] = [f"and {more} more; 'llmquiz deck lint' lists all"]
        store.set_meta(_NOTES, json.dumps(notes, ensure_ascii=False))
    kept: list[str] = json.loads(store.meta(_NOTES) or "[]")
    return kept
