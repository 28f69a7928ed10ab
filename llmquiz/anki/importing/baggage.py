"""What travels along with a collection's notes: the decks, presets and note types that they need.

Only what notes of others use is taken: a deck that holds nothing but cards of our own is ours already.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from llmquiz.anki.archive.reading import Tables
from llmquiz.anki.archive.records import CardRow, DeckRecord, PresetRecord
from llmquiz.anki.importing import naming
from llmquiz.core.options import DEFAULT_PARAMETERS, Options
from llmquiz.notes.markdown import markdown
from llmquiz.store.incoming import IncomingDeck

DEFAULT_DECK = 1
_DEFAULT_NAME = "Default"


@dataclass(slots=True)
class Survey:
    """What one pass over the cards found.

    Attributes:
        ids: of all cards, sorted.
        own: ids of notes that llmquiz exported.
        cards: cards of other notes by their home deck; `own_decks`: the home decks of our own.
        filtered: cards that a filtered deck has borrowed, by that deck.
        scattered: notes whose cards lie in several decks.
        notetypes: ids of the note types in use.
    """

    ids: array[int] = field(default_factory=lambda: array("q"))
    own: set[int] = field(default_factory=set)
    cards: Counter[int] = field(default_factory=Counter)
    own_decks: set[int] = field(default_factory=set)
    filtered: Counter[int] = field(default_factory=Counter)
    scattered: int = 0
    notetypes: set[int] = field(default_factory=set)


def home_deck(row: CardRow) -> int:
    """The deck that a card belongs to, also while a filtered deck has it."""
    return row.original_deck or row.deck


def survey(tables: Tables) -> Survey:
    """Look through notes and cards once."""
    found = Survey()
    for note in tables.notes():
        if note.guid.startswith(naming.OWN_GUID):
            found.own.add(note.id)
        else:
            found.notetypes.add(note.notetype)
    last_note, decks = None, set[int]()
    for row in tables.cards():
        found.ids.append(row.id)
        deck = home_deck(row)
        if row.note in found.own:
            found.own_decks.add(deck)
            continue
        found.cards[deck] += 1
        if row.original_deck:
            found.filtered[row.deck] += 1
        if row.note != last_note:
            found.scattered += len(decks) > 1
            last_note, decks = row.note, set()
        decks.add(deck)
    found.scattered += len(decks) > 1
    found.ids = array("q", sorted(found.ids))
    return found


class Baggage:
    """The JSON of decks, presets and note types that the notes of a collection need, and our names for its decks."""

    def __init__(self, tables: Tables, found: Survey) -> None:
        self._tables = tables
        self._found = found
        self.decks = {deck.id: deck for deck in tables.decks.values() if self._travels(deck)}
        self.lost = sum(count for deck, count in found.cards.items() if deck not in self.decks)
        used = {deck.id: deck.name for deck in self.decks.values() if found.cards[deck.id]}
        if self.lost:
            used.setdefault(DEFAULT_DECK, _DEFAULT_NAME)
        by_name = naming.slugs(set(used.values()))
        self.slugs = {deck_id: by_name[name] for deck_id, name in used.items()}

    def placed(self, row: CardRow) -> CardRow:
        """The card, in the default deck if its own is not there."""
        if home_deck(row) in self.decks:
            return row
        return row._replace(original_deck=DEFAULT_DECK) if row.original_deck else row._replace(deck=DEFAULT_DECK)

    def our_decks(self) -> list[IncomingDeck]:
        """The decks that hold cards, as ours."""
        by_slug = {slug: deck_id for deck_id, slug in self.slugs.items()}  # two decks of one name are one
        return [_deck(slug, self.decks.get(deck_id)) for slug, deck_id in by_slug.items()]

    def _travels(self, deck: DeckRecord) -> bool:
        if deck.is_filtered:
            return False
        inside = f"{deck.name}::"
        below = {it.id for it in self._tables.decks.values() if it.id == deck.id or it.name.startswith(inside)}
        return any(self._found.cards[it] for it in below) or not below & self._found.own_decks

    def deck_entries(self) -> dict[int, tuple[str | None, str]]:
        """Of each deck: our deck, None where no card lies in it, and Anki's JSON."""
        return {deck.id: (self.slugs.get(deck.id), _json(deck.legacy)) for deck in self.decks.values()}

    def preset_entries(self) -> dict[int, str]:
        """The presets of these decks."""
        return {preset.id: _json(preset.legacy) for preset in self.presets()}

    def presets(self) -> list[PresetRecord]:
        """The presets that these decks use."""
        ids = sorted({deck.preset for deck in self.decks.values()} & self._tables.presets.keys())
        return [self._tables.presets[preset] for preset in ids]

    def notetype_entries(self) -> dict[int, str]:
        """The note types in use."""
        ids = sorted(self._found.notetypes & self._tables.notetypes.keys())
        return {notetype: _json(self._tables.notetypes[notetype].legacy) for notetype in ids}

    def findings(self, options: Options) -> list[str]:
        """What of it has no effect here."""
        lines = [_of_preset(preset, options) for preset in self.presets() if _differs(preset, options)]
        if borrowed := sum(self._found.filtered.values()):
            names = [self._tables.decks[deck].name for deck in self._found.filtered if deck in self._tables.decks]
            lines.append(
                f"filtered decks ({', '.join(map(naming.safe, names))}) are not kept: "
                f"their {borrowed} cards are back in their own decks"
            )
        if self.lost:
            lines.append(f"{self.lost} cards are in no deck that is in the file; they are in '{_DEFAULT_NAME}' now")
        if self._found.scattered:
            lines.append(
                f"{self._found.scattered} notes have cards in several decks: here each lies in the deck of its first "
                "card; an export to Anki puts every card back"
            )
        return lines


def _deck(slug: str, deck: DeckRecord | None) -> IncomingDeck:
    name, about = (deck.name, deck.legacy.get("desc")) if deck else (_DEFAULT_NAME, "")
    lang = naming.language(name)
    intro = markdown(about) if isinstance(about, str) and about.strip() else ""
    return IncomingDeck(slug, {lang: naming.title(name)}, {lang: intro} if intro else {})


def _differs(preset: PresetRecord, options: Options) -> bool:
    retention = preset.desired_retention
    fitted = bool(preset.parameters) and tuple(preset.parameters) not in (options.parameters, DEFAULT_PARAMETERS)
    return fitted or (retention is not None and abs(retention - options.desired_retention) > 1e-4)


def _of_preset(preset: PresetRecord, options: Options) -> str:
    retention = options.desired_retention if preset.desired_retention is None else preset.desired_retention
    weights = "fitted weights" if preset.parameters else "no weights of its own"
    names = "'desired_retention' and 'parameters'" if preset.parameters else "'desired_retention'"
    return (
        f"preset '{naming.safe(preset.name)}' ({retention:.0%} retention, {weights}) is kept for the way back but does "
        f"not schedule here; for that put {names} under [schedule] into the settings file"
    )


def _json(entry: Mapping[str, object]) -> str:
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":"))
