"""Which command opens a deck file at a card's line, and whether that file may be changed."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from llmquiz.core.card import Card, Kind, Lang
from llmquiz.core.errors import Place, UsageError
from llmquiz.deck.library import Library
from llmquiz.settings import Settings

_PLUS_LINE = frozenset(
    {"vi", "vim", "nvim", "view", "nano", "pico", "emacs", "emacsclient", "kak", "joe", "micro", "ne", "mg"}
)
_COLON_LINE = frozenset({"hx", "helix", "subl", "zed", "cursor", "codium", "code", "code-insiders"})
_GOTO = frozenset({"code", "code-insiders", "codium", "cursor"})
_WAIT = frozenset({"code", "code-insiders", "codium", "cursor", "subl", "zed"})


def editor(settings: Settings, environ: Mapping[str, str] = os.environ) -> str:
    """The user's editor: the setting, else ``$VISUAL``, ``$EDITOR``, ``vi``; it may hold arguments."""
    return settings.editor or environ.get("VISUAL") or environ.get("EDITOR") or "vi"


def command(place: Place, editor_command: str) -> list[str]:
    """The arguments that open `place` in the editor, at its line where the editor is known to take one.

    Raises:
        UsageError: if the editor's command is empty or its quotes do not close.
    """
    try:
        words = shlex.split(editor_command)
    except ValueError as error:
        raise UsageError(f"editor {editor_command!r}: {error}; mend 'editor' in the settings or $EDITOR") from error
    if not words:
        raise UsageError("the editor's command is empty; set 'editor' in the settings or $EDITOR")
    return [*words, *_wait(words), *_at(Path(words[0]).stem, place)]


def place(card: Card, library: Library, lang: Lang) -> Place:
    """Where `card` is written, in `lang` or in the language that it has.

    Raises:
        UsageError: if no deck file has the card.
    """
    if card.kind is Kind.NOTE:
        raise UsageError(f"card '{card.id}' was imported; change it where it came from, then import it again")
    return library.source(card.id, lang)


def editable(place: Place) -> Place:
    """`place`, if its file can be changed.

    Raises:
        UsageError: if the file is gone or is not the user's to write, as in an installed package.
    """
    if not place.path.is_file():
        raise UsageError(f"{place.path}: there is no such file any more; run 'llmquiz deck list' to see the decks")
    if not os.access(place.path, os.W_OK):
        raise UsageError(
            f"{place}: the file is read-only, as shipped decks in an installed package often are;"
            " suspend the card and write your own with 'llmquiz deck new', or edit the deck in a checkout"
        )
    return place


def _wait(words: list[str]) -> list[str]:
    """The flag that makes a windowed editor return only when the file is closed, unless the user gave it."""
    if Path(words[0]).stem not in _WAIT or {"-w", "--wait"} & set(words):
        return []
    return ["--wait"]


def _at(name: str, place: Place) -> list[str]:
    if name in _GOTO:
        return ["-g", str(place)]
    if name in _COLON_LINE:
        return [str(place)]
    return [f"+{place.line}", str(place.path)] if name in _PLUS_LINE else [str(place.path)]
