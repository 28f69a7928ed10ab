"""What the screens work on, handed to the app once: the store, the settings, the clock, where decks and labs are."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from llmquiz.core.card import Card, Lang
from llmquiz.core.day import Calendar, Clock
from llmquiz.core.errors import LlmquizError, Place, StoreError
from llmquiz.core.options import Options
from llmquiz.settings import Settings
from llmquiz.study.queue import Scope
from llmquiz.study.session import Session

if TYPE_CHECKING:
    from llmquiz.deck.library import Folder, Library
    from llmquiz.lab.catalog import Catalog, Lab
    from llmquiz.store import DeckCounts, Store


@dataclass
class Services:
    """Everything outside of the screens.

    Args:
        clock: Unix seconds; tests pass a frozen one.
        catalog: where labs are found; None for the shipped ones and the user's, read when first needed.
        folders: where decks are found; None for the shipped ones and the user's.
    """

    store: Store
    settings: Settings = field(default_factory=Settings)
    options: Options = field(default_factory=Options)
    calendar: Calendar = field(default_factory=Calendar)
    clock: Clock = time.time
    catalog: Catalog | None = None
    folders: Sequence[Folder] | None = None
    _titles: dict[str, Mapping[Lang, str]] = field(default_factory=dict, init=False, repr=False)

    @property
    def today(self) -> int:
        """The study day."""
        return self.calendar.day(self.clock())

    def session(self, scope: Scope | None = None) -> Session:
        """A new session over `scope`, by default over all that is due."""
        return Session(self.store, self.options, scope=scope, calendar=self.calendar, clock=self.clock)

    def deck_counts(self) -> list[DeckCounts]:
        """What each deck has to offer now."""
        return self.store.deck_counts(self.today, self.clock(), self.options)

    def waiting(self) -> int:
        """Cards left for today over all decks, under the daily limits."""
        counts = self.session().counts
        return counts.new + counts.learning + counts.review

    def due_tomorrow(self) -> int:
        """Reviews that fall due on the next study day, as far as is known now."""
        from llmquiz.study.forecast import forecast

        return forecast(self.store, self.clock(), self.calendar, days=2).due[1]

    def deck_title(self, deck: str, lang: Lang) -> str:
        """The title of a deck in `lang`, or in the language that it has."""
        if deck not in self._titles:
            self._titles.update({known.id: known.titles for known in self.deck_counts()})
        titles = self._titles.get(deck, {})
        return titles.get(lang) or next(iter(titles.values()), deck)

    def front(self, card_id: str, lang: Lang) -> str:
        """The question of a card; its id if there is no such card."""
        try:
            return self.store.card(card_id).text(lang).front
        except StoreError:
            return card_id

    def lab(self, name: str) -> Lab:
        """The lab of that name.

        Raises:
            LlmquizError: if there is none, or its manifest is broken.
        """
        return self._catalog.find(name)

    def labs(self) -> list[Lab]:
        """All labs that can be used."""
        return self._catalog.labs()

    def warm_modules(self) -> tuple[str, ...]:
        """Modules that labs want imported before they are asked for."""
        return self._catalog.warm_modules()

    def unit(self, card: Card) -> str:
        """The unit in which a predict card asks its number; empty where its lab is not known."""
        if card.lab is None or card.lab.metric is None:
            return ""
        try:
            metric = self.lab(card.lab.lab).manifest.metrics.get(card.lab.metric)
        except LlmquizError:
            return ""
        return metric.unit if metric else ""

    def place(self, card: Card, lang: Lang) -> Place:
        """Where the card is written, in `lang` or in the language that it has.

        Raises:
            UsageError: if no deck file has the card.
        """
        from llmquiz.study import edit

        return edit.place(card, self._library(), lang)

    def read_again(self, card: Card) -> list[str]:
        """Read the decks into the store after an edit; what is wrong with the deck of `card` now.

        Raises:
            StoreError: if the store cannot be written.
        """
        from llmquiz.deck.finding import errors
        from llmquiz.deck.library import load_into

        library = self._library()
        load_into(self.store, now=self.clock(), library=library)
        self._titles.clear()
        return [str(finding) for finding in errors(library.findings) if card.deck in finding.place.path.name]

    def _library(self) -> Library:
        from llmquiz.deck.library import Library

        return Library(self.folders)

    @cached_property
    def _catalog(self) -> Catalog:
        from llmquiz.lab.catalog import Catalog

        return self.catalog or Catalog()
