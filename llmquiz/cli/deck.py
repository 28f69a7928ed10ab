"""`llmquiz deck`: check decks, list them, start one, show a card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmquiz.core.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from llmquiz.core.card import Card, Deck, Lang
    from llmquiz.deck.finding import Finding
    from llmquiz.store.imported import ImportedDeck

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Check, list and write decks.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("lint")
def lint(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Deck files or folders; default: the shipped decks and yours.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check decks: format, rubric, numbers, formulas, labs. Exit code 1 if there are errors."""
    from llmquiz.deck.finding import errors
    from llmquiz.deck.library import Library, folders_of
    from llmquiz.deck.lint import lint_library
    from llmquiz.lab.catalog import Catalog

    library = Library(folders_of(paths)) if paths else Library()
    findings = lint_library(library, Catalog().manifests(), others=Library().decks() if paths else ())
    if as_json:
        typer.echo(json.dumps([_finding(it) for it in findings], ensure_ascii=False, indent=2))
    else:
        typer.echo(_lines(findings), nl=False)
    failed = len(errors(findings))
    cards = sum(len(deck.cards) for deck in library.decks())
    summary = f"{len(library.decks())} decks, {cards} cards: {failed} errors, {len(findings) - failed} warnings"
    typer.echo(summary, err=True)
    if failed:
        raise typer.Exit(ExitCode.FINDINGS)


@app.command("list")
def list_decks(as_json: AsJson = False) -> None:
    """List the decks, and where yours lie."""
    from llmquiz import locations
    from llmquiz.deck.library import Library

    library = Library()
    imported = _imported_decks()
    if as_json:
        report = {
            "decks": [_summary(deck) for deck in library.decks()],
            "imported": [_imported_summary(deck) for deck in imported],
            "broken": sorted(library.broken),
            "folder": str(locations.user_decks()),
        }
        typer.echo(json.dumps(report, ensure_ascii=False, indent=2))
        return
    for deck in library.decks():
        kinds = ", ".join(f"{count} {kind}" for kind, count in _kinds(deck).items())
        titles = " / ".join(deck.titles.values())
        typer.echo(f"{deck.id}: {titles} ({'+'.join(deck.titles)}; {kinds or 'no cards'})")
    for from_elsewhere in imported:
        titles = " / ".join(from_elsewhere.titles.values())
        typer.echo(f"{from_elsewhere.id}: {titles} (from {from_elsewhere.origin}; {from_elsewhere.notes} note)")
    for name in sorted(library.broken):
        typer.echo(f"{name}: cannot be read; see `llmquiz deck lint`", err=True)
    typer.echo(f"your decks: {locations.user_decks()}", err=True)


@app.command("coverage")
def show_coverage(
    lang: Annotated[str | None, typer.Option("--lang", help="en or zh; default: as in the settings.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show which topics of the syllabus have an open card and an atomic one, and which lack them."""
    from llmquiz.cli.coverage import print_coverage
    from llmquiz.deck import topics
    from llmquiz.deck.coverage import coverage
    from llmquiz.deck.library import Library

    syllabus = topics.load()
    found = coverage(syllabus, (card for deck in Library().decks() for card in deck.cards))
    print_coverage(syllabus, found, _language(lang), as_json=as_json)


@app.command("chains")
def show_chains(
    name: Annotated[str | None, typer.Argument(help="One chain, with its traps; default: all.")] = None,
    lang: Annotated[str | None, typer.Option("--lang", help="en or zh; default: as in the settings.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show how interviewers chain topics, what they ask of each, and how many cards there are."""
    from collections import Counter

    from llmquiz.cli.chains import print_chains
    from llmquiz.deck import chains, topics
    from llmquiz.deck.library import Library

    known = chains.load()
    if name is not None and name not in known:
        raise UsageError(f"no chain '{name}'; there are {', '.join(known)}")
    counts = Counter(card.topic for deck in Library().decks() for card in deck.cards)
    chosen = known if name is None else {name: known[name]}
    print_chains(chosen, topics.load(), counts, _language(lang), as_json=as_json)


@app.command("new")
def new(name: Annotated[str, typer.Argument(help="Lower-case words joined by hyphens.")]) -> None:
    """Start a deck of your own: a file in English, one in Chinese, with a first card to change."""
    from llmquiz import locations
    from llmquiz.deck.library import Library
    from llmquiz.deck.new import create

    if any(deck.id == name for deck in Library().decks()):
        raise UsageError(f"a deck '{name}' is there already; choose another name")
    for path in create(name, locations.user_decks()):
        typer.echo(path)
    typer.echo("delete one of the two files to write in one language; check with `llmquiz deck lint`", err=True)


@app.command("show")
def show(
    card_id: Annotated[str, typer.Argument(help="A card's id.")],
    lang: Annotated[str | None, typer.Option("--lang", help="en or zh; default: as in the settings.")] = None,
) -> None:
    """Print a card, answers included, as plain text."""
    import shutil

    from llmquiz import settings
    from llmquiz.core.card import Lang
    from llmquiz.deck import plain
    from llmquiz.deck.library import Library

    chosen = lang or settings.load().language
    if chosen not in ("both", *Lang):
        raise UsageError(f"language '{chosen}' is not one of en, zh, both")
    written = (card for deck in Library().decks() for card in deck.cards if card.id == card_id)
    card = next(written, None) or _imported_card(card_id)
    if card is None:
        raise UsageError(f"no deck has a card '{card_id}'; `llmquiz search` finds cards")
    width = min(shutil.get_terminal_size().columns, 100)
    shown = [it for it in Lang if chosen in ("both", it) and it in card.texts] or [next(iter(card.texts))]
    typer.echo("\n\n".join(plain.card(card, it, width) for it in shown))


def _imported_card(card_id: str) -> Card | None:
    """A note that no file has, from the store."""
    from llmquiz import locations
    from llmquiz.core.card import Kind
    from llmquiz.core.errors import StoreError
    from llmquiz.store import Store

    if not locations.database().is_file():
        return None
    with Store.open(read_only=True) as store:
        try:
            card = store.card(card_id)
        except StoreError:
            return None
    return card if card.kind is Kind.NOTE else None


def _imported_decks() -> list[ImportedDeck]:
    from llmquiz import locations
    from llmquiz.core.errors import StoreError
    from llmquiz.store import Store
    from llmquiz.store.imported import imported_decks

    if not locations.database().is_file():
        return []
    try:
        with Store.open(read_only=True) as store:
            return imported_decks(store.connection)
    except StoreError as error:  # the decks that have files can be listed all the same
        typer.echo(f"llmquiz: note: {error}", err=True)
        return []


def _language(asked: str | None) -> Lang:
    """The language of a report."""
    from llmquiz import settings
    from llmquiz.core.card import Lang

    chosen = asked or settings.load().language
    if chosen not in ("both", *Lang):
        raise UsageError(f"language '{chosen}' is not one of en, zh")
    return Lang.EN if chosen == "both" else Lang(chosen)


def _lines(findings: list[Finding]) -> str:
    from llmquiz.deck.reading import printable

    return "".join(f"{printable(str(it))}\n" for it in findings)


def _finding(finding: Finding) -> dict[str, object]:
    from llmquiz.deck.reading import printable

    return {
        "path": printable(str(finding.place.path)),
        "line": finding.place.line,
        "rule": finding.rule,
        "severity": finding.severity.value,
        "problem": printable(finding.problem),
    }


def _kinds(deck: Deck) -> dict[str, int]:
    from collections import Counter

    return dict(sorted(Counter(card.kind.value for card in deck.cards).items()))


def _imported_summary(deck: ImportedDeck) -> dict[str, object]:
    titles = {lang.value: title for lang, title in deck.titles.items()}
    return {"id": deck.id, "titles": titles, "notes": deck.notes, "origin": deck.origin}


def _summary(deck: Deck) -> dict[str, object]:
    return {
        "id": deck.id,
        "titles": {lang.value: title for lang, title in deck.titles.items()},
        "cards": _kinds(deck),
        "builtin": deck.builtin,
    }
