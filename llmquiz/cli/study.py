"""`llmquiz study`: the next card, in the terminal app, in lines, or as JSON for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmquiz.core.errors import UsageError

if TYPE_CHECKING:
    from llmquiz.core.card import Card
    from llmquiz.store import Store
    from llmquiz.study.plain import Say
    from llmquiz.study.session import Scope
    from llmquiz.tui.services import Services

_LISTED = 12  # names that an error message lists


def study(
    deck: Annotated[list[str] | None, typer.Option("--deck", "-d", help="Study this deck; may be repeated.")] = None,
    topic: Annotated[list[str] | None, typer.Option("--topic", "-t", help="Study this topic; may be repeated.")] = None,
    card: Annotated[str | None, typer.Option(help="Study this card alone, due or not.", metavar="ID")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many cards.")] = None,
    new: Annotated[int | None, typer.Option(min=0, help="New cards today, instead of the setting.")] = None,
    lang: Annotated[str | None, typer.Option(help="en, zh or both.")] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Lines instead of the app: for pipes and screen readers.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Speak JSON lines with a program; see docs/json.md.")] = False,
) -> int:
    """Study what is due: reviews, then new cards.

    Opens the terminal app; without a terminal, or with --plain, reads a line and says a line: Enter shows the answer,
    1 to 4 rate it (again, hard, good, easy), ? lists the rest.
    """
    from llmquiz.cli.opening import opened

    if plain and as_json:
        raise UsageError("--plain and --json exclude each other; leave one out")
    with opened(lang, new) as services:
        scope = _scope(services.store, deck or [], topic or [], card, limit)
        if as_json:
            return _json(services, scope)
        if plain or not _has_terminal():
            return _plain(services, scope)
        from llmquiz.tui import app

        app.run(services, scope=scope)
    return 0


def home() -> None:
    """Open the terminal app on its home screen; without a terminal, say how to go on.

    Raises:
        UsageError: without a terminal.
    """
    from llmquiz.cli.opening import opened

    if not _has_terminal():
        raise UsageError("the app needs a terminal; use 'llmquiz study --plain', or see 'llmquiz --help'")
    with opened() as services:
        from llmquiz.tui import app

        app.run(services)


def _has_terminal() -> bool:
    import os
    import sys

    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _json(services: Services, scope: Scope) -> int:
    import sys

    from llmquiz.study import jsonl

    language = services.settings.language
    return jsonl.run(services.session(scope), sys.stdin, sys.stdout, language, clock=services.clock)


def _plain(services: Services, scope: Scope) -> int:
    import sys

    from llmquiz.lab.catalog import Catalog
    from llmquiz.study import plain
    from llmquiz.study.bench import Bench
    from llmquiz.study.words import interface

    lang = interface(services.settings.language)
    tools = plain.Tools(
        edit=lambda card, say: _edit(services, card, say),
        measure=Bench(services.store, Catalog(), services.clock, lang),
    )
    language = services.settings.language
    return plain.run(services.session(scope), sys.stdin, sys.stdout, language, tools=tools, clock=services.clock)


def _edit(services: Services, card: Card, say: Say) -> None:
    """Open the card's file in the user's editor, then read the decks again."""
    import subprocess

    from llmquiz.deck.library import Library, load_into
    from llmquiz.study import edit
    from llmquiz.study.words import interface, shown, word

    language = services.settings.language
    place = edit.editable(edit.place(card, Library(), shown(language)[0]))
    command = edit.command(place, edit.editor(services.settings))
    say(word("editing", interface(language), path=place))
    try:
        code = subprocess.run(command, check=False).returncode
    except OSError as error:
        raise UsageError(f"editor '{command[0]}' cannot be started; set 'editor' in the settings or $EDITOR") from error
    if code:
        raise UsageError(f"editor '{command[0]}' ended with code {code}; the card is at {place}")
    library = Library()
    load_into(services.store, now=services.clock(), library=library)
    for finding in library.findings:
        if finding.place.path == place.path:
            say(str(finding))


def _scope(store: Store, decks: list[str], topics: list[str], card: str | None, limit: int | None) -> Scope:
    """What to study, every name checked against the store."""
    from llmquiz.study.session import Scope

    _check("deck", decks, "SELECT id FROM deck WHERE archived_at IS NULL ORDER BY position, id", store)
    _check("topic", topics, "SELECT DISTINCT topic FROM card WHERE archived_at IS NULL ORDER BY topic", store)
    _check("card", [card] if card else [], "SELECT id FROM card WHERE archived_at IS NULL ORDER BY id", store)
    return Scope(tuple(decks), tuple(topics), card, limit)


def _check(what: str, names: list[str], query: str, store: Store) -> None:
    known = [row[0] for row in store.connection.execute(query)] if names else []
    for name in names:
        if name not in known:
            raise UsageError(f"no {what} '{name[:60]}'; {_nearest(what, name, known)}")


def _nearest(what: str, name: str, known: list[str]) -> str:
    from difflib import get_close_matches

    if near := get_close_matches(name, known, n=1, cutoff=0.5):
        return f"did you mean '{near[0]}'?"
    if what == "card":
        return "'llmquiz search' finds cards"
    listed = ", ".join(known[:_LISTED]) + (f" and {len(known) - _LISTED} more" if len(known) > _LISTED else "")
    return f"there {'are' if known else 'is'} {listed or 'none'}"
