"""What travels along with a collection's notes: the decks, presets and note types that they need.

Only what notes of others use is taken: a deck that holds nothing but cards of our own is ours already.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass

from llmquiz.anki.archive.columns import integer
from llmquiz.anki.archive.definitions import DEFAULT
from llmquiz.anki.archive.reading import Tables
from llmquiz.anki.archive.records import DeckRecord, PresetRecord
from llmquiz.anki.archive.untrusted import Database
from llmquiz.anki.importing import naming
from llmquiz.core.options import DEFAULT_PARAMETERS, Options
from llmquiz.notes.markdown import markdown
from llmquiz.store.incoming import IncomingDeck

_DEFAULT_NAME = "Default"

_CARDS = "SELECT anki_deck, own, count(*) FROM home GROUP BY 1, 2"
_LENT = f"""
SELECT {integer("did")}, count(*) FROM cards NOT INDEXED CROSS JOIN home ON home.part = {integer("cards.id")}
WHERE {integer("odid")} <> 0 AND NOT own GROUP BY 1
"""
_PLACE = f"UPDATE home SET anki_deck = {DEFAULT} WHERE NOT own AND anki_deck NOT IN (SELECT value FROM json_each(?))"
_NOTETYPES = """
SELECT DISTINCT mid FROM notes NOT INDEXED WHERE typeof(mid) = 'integer' AND id NOT IN (SELECT note FROM temp.own)
"""


@dataclass(frozen=True, slots=True)
class Survey:
    """What the cards and their notes need.

    Attributes:
        cards: cards of others' notes by their home deck; `own_decks`: the home decks of our own.
        filtered: cards that a filtered deck has borrowed, by that deck.
        notetypes: ids of the note types in use.
    """

    cards: Counter[int]
    own_decks: Set[int]
    filtered: Mapping[int, int]
    notetypes: Set[int]


def survey(source: Database) -> Survey:
    """Look at what `llmquiz.anki.importing.homes.stage` has staged."""
    found = [*source.rows(_CARDS)]
    cards = Counter({deck: count for deck, is_own, count in found if not is_own})
    return Survey(
        cards=cards,
        own_decks={deck for deck, is_own, _ in found if is_own},
        filtered=dict(source.rows(_LENT)),
        notetypes={notetype for (notetype,) in source.rows(_NOTETYPES)},
    )


class Baggage:
    """The JSON of decks, presets and note types that the notes of a collection need, and our names for its decks."""

    def __init__(self, tables: Tables, found: Survey) -> None:
        self._tables = tables
        self._found = found
        self.decks = {deck.id: deck for deck in tables.decks.values() if self._travels(deck)}
        self._filtered = [tables.decks[deck] for deck in sorted(found.filtered) if self._lends(deck)]
        self.lost = sum(count for deck, count in found.cards.items() if deck not in self.decks)
        used = {deck.id: deck.name for deck in self.decks.values() if found.cards[deck.id]}
        if self.lost:
            used.setdefault(DEFAULT, _DEFAULT_NAME)
        by_name = naming.slugs(set(used.values()))
        self.slugs = {deck_id: by_name[name] for deck_id, name in used.items()}

    def place(self) -> None:
        """Put the cards whose deck is not there into the default deck."""
        if self.lost:
            kept = json.dumps([*self.decks])
            self._tables.source.run(_PLACE, (kept,))

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

    def _lends(self, deck: int) -> bool:
        return deck in self._tables.decks and self._tables.decks[deck].is_filtered

    def deck_entries(self) -> dict[int, tuple[str | None, str]]:
        """Of each deck: our deck, None where no card lies in it, and Anki's JSON."""
        decks = (*self.decks.values(), *self._filtered)
        return {deck.id: (self.slugs.get(deck.id), _json(deck.legacy)) for deck in decks}

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
            names = ", ".join(naming.safe(deck.name) for deck in self._filtered)
            lines.append(
                f"filtered decks ({names}) gather no cards here: their {borrowed} cards are in their own decks; "
                "an export gives back those that were not studied since"
            )
        if self.lost:
            lines.append(f"{self.lost} cards are in no deck that is in the file; they are in '{_DEFAULT_NAME}' now")
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
