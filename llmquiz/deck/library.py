"""The decks there are: those that are shipped and those that the user wrote, each a pair of files in a folder.

A deck that cannot be read hides no other one, and keeps the cards that it had in the store: only a deck whose files are
gone is archived.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmquiz import __version__, locations
from llmquiz.core.card import Deck, Lang
from llmquiz.core.errors import Place, UsageError
from llmquiz.deck import attributes
from llmquiz.deck.finding import Finding, Severity
from llmquiz.deck.parse import deck_id, parse_deck

if TYPE_CHECKING:
    from llmquiz.store import Store
    from llmquiz.store.records import SyncReport

_META = "deck fingerprint"
_READ_BY_PEOPLE = frozenset({"readme.md", "contributing.md"})


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of decks; `only` narrows it to the decks of these names."""

    path: Path
    builtin: bool
    only: frozenset[str] | None = None


def folder_of(path: Path) -> Folder:
    """The folder `path`, or the deck that the file `path` belongs to.

    Raises:
        UsageError: if there is nothing, or the file is not called as a deck file.
    """
    parent = path if path.is_dir() else path.parent
    builtin = parent.resolve() == locations.shipped("decks").resolve()
    if path.is_dir():
        return Folder(path, builtin)
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder; give deck files or folders of them")
    if path.suffix != ".md" or _lang(path) is None:
        raise UsageError(f"{path}: not a deck file; it is called <deck>.en.md or <deck>.zh.md")
    return Folder(parent, builtin, frozenset({deck_id(path)}))


def folders_of(paths: Iterable[Path]) -> list[Folder]:
    """The folders and deck files of `paths`; files of one folder are taken together.

    Raises:
        UsageError: as `folder_of`.
    """
    merged: dict[Path, Folder] = {}
    for folder in map(folder_of, paths):
        before = merged.get(folder.path)
        names = None if folder.only is None or (before and before.only is None) else folder.only
        if before and before.only is not None and names is not None:
            names |= before.only
        merged[folder.path] = replace(folder, only=names)
    return list(merged.values())


def default_folders() -> tuple[Folder, ...]:
    """The shipped decks, then the user's."""
    return Folder(locations.shipped("decks"), builtin=True), Folder(locations.user_decks(), builtin=False)


class Library:
    """All decks of some folders, read when first asked for. Earlier folders win where names collide."""

    def __init__(self, folders: Sequence[Folder] | None = None) -> None:
        self.folders = tuple(default_folders() if folders is None else folders)
        self._read: tuple[list[Deck], list[Finding], set[str]] | None = None

    def decks(self) -> list[Deck]:
        """The decks that can be used: by position, then name."""
        return self._result()[0]

    @property
    def findings(self) -> list[Finding]:
        """What is wrong with the files, as far as reading them tells."""
        return self._result()[1]

    @property
    def broken(self) -> set[str]:
        """Ids of decks that have files which cannot be used."""
        return self._result()[2]

    def files(self) -> list[Path]:
        """Every deck file, sorted."""
        found = (path for folder in self.folders for path in _markdown(folder))
        return sorted(path for path in found if _lang(path))

    def fingerprint(self) -> str:
        """Changes when a file is added, removed or written to; reads no file."""
        state = hashlib.blake2b(__version__.encode(), digest_size=16)
        for path in self.files():
            try:
                stat = path.stat()
            except OSError:
                continue
            state.update(f"{path}\0{stat.st_mtime_ns}\0{stat.st_size}\n".encode("utf-8", "surrogatepass"))
        return state.hexdigest()

    def source(self, card_id: str, lang: Lang) -> Place:
        """Where the card stands, in `lang` or in the language that it has.

        Raises:
            UsageError: if no deck has the card.
        """
        for deck in self.decks():
            for card in deck.cards:
                if card.id == card_id and (place := card.text(lang).place):
                    return place
        raise UsageError(f"no deck has a card '{card_id}'; `llmquiz search` finds cards")

    def _result(self) -> tuple[list[Deck], list[Finding], set[str]]:
        if self._read is None:
            self._read = _read_folders(self.folders)
        return self._read


def load_into(store: Store, *, now: float, library: Library | None = None) -> SyncReport | None:
    """Bring the store in line with the decks; None if no file changed since the last time.

    Raises:
        StoreError: if the store cannot be written.
    """
    library = library or Library()
    fingerprint = library.fingerprint()
    if store.meta(_META) == fingerprint:
        return None
    report = store.sync(library.decks(), now=now, gone=_gone(store, library))
    store.set_meta(_META, fingerprint)
    return report


def _gone(store: Store, library: Library) -> set[str]:
    if any(_is_unreadable(folder.path) for folder in library.folders):
        return set()
    of_files = "SELECT id FROM deck WHERE archived_at IS NULL AND origin IS NULL"
    known = {str(row[0]) for row in store.connection.execute(of_files)}
    return known - {deck.id for deck in library.decks()} - library.broken


def pairs(folder: Folder) -> tuple[dict[str, dict[Lang, Path]], list[Finding]]:
    """The files of each deck in `folder`, and the files that are none."""
    found: dict[str, dict[Lang, Path]] = {}
    findings: list[Finding] = []
    for path in _markdown(folder):
        lang, name = _lang(path), deck_id(path)
        if lang is None:
            problem = f"'{path.name}' is not read; a deck file is called <deck>.en.md or <deck>.zh.md"
            findings.append(Finding(Place(path, 1), "D01", problem, Severity.WARNING))
        elif attributes.id_problem(name):
            problem = f"deck name '{name[:40]}' is not lower-case words joined by hyphens; rename the file"
            findings.append(Finding(Place(path, 1), "D01", problem))
        else:
            found.setdefault(name, {})[lang] = path
    return found, findings


def _markdown(folder: Folder) -> list[Path]:
    try:
        names = sorted(folder.path.iterdir())
    except OSError:
        return []
    files = [path for path in names if path.suffix == ".md" and path.name.lower() not in _READ_BY_PEOPLE]
    return files if folder.only is None else [path for path in files if deck_id(path) in folder.only]


def _is_unreadable(folder: Path) -> bool:
    """Whether a folder is there but cannot be listed: then nobody knows which decks are gone."""
    try:
        next(folder.iterdir(), None)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _lang(path: Path) -> Lang | None:
    words = path.name.split(".")
    return Lang(words[1]) if len(words) == 3 and words[1] in set(Lang) else None


def _read_folders(folders: Iterable[Folder]) -> tuple[list[Deck], list[Finding], set[str]]:
    decks: dict[str, Deck] = {}
    owners: dict[str, str] = {}  # card id -> deck id
    findings: list[Finding] = []
    broken: set[str] = set()
    for folder in folders:
        found, problems = pairs(folder)
        findings += problems
        for name, paths in found.items():
            place = Place(next(iter(paths.values())), 1)
            if name in decks or name in broken:
                findings.append(Finding(place, "D02", f"a deck '{name}' is there already; rename this file"))
                continue
            deck, problems = _read_pair(paths, folder)
            findings += problems
            if deck and (clashes := _clashes(deck, owners)):
                findings += clashes
                deck = None
            if deck is None:
                broken.add(name)
                continue
            decks[name] = deck
            owners |= {card.id: name for card in deck.cards}
    return sorted(decks.values(), key=lambda deck: (deck.position, deck.id)), findings, broken


def _read_pair(paths: dict[Lang, Path], folder: Folder) -> tuple[Deck | None, list[Finding]]:
    deck, findings = parse_deck(paths, builtin=folder.builtin)
    if folder.builtin and len(paths) < len(Lang):
        have = next(iter(paths.values()))
        findings.append(Finding(Place(have, 1), "F03", "a shipped deck needs both languages; write the other file"))
    return deck, findings


def _clashes(deck: Deck, owners: dict[str, str]) -> list[Finding]:
    return [
        Finding(
            card.text(Lang.EN).place or Place(Path(deck.id), 1),
            "S09",
            f"card id '{card.id}' is taken by deck '{owners[card.id]}'; give this one another id",
        )
        for card in deck.cards
        if card.id in owners
    ]
