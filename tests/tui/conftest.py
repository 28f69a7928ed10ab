"""A store with two small decks, three labs without torch, a frozen clock, and an app over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llmquiz.core.day import Calendar
from llmquiz.deck.library import Folder, Library, load_into
from llmquiz.lab.catalog import Catalog
from llmquiz.settings import Settings
from llmquiz.store import Store
from llmquiz.study.queue import Scope
from llmquiz.tui.app import LlmquizApp
from llmquiz.tui.services import Services

FIXTURES = Path(__file__).parent / "fixtures"
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC).timestamp()
UTC_DAYS = Calendar(zone=UTC)


@dataclass
class FrozenClock:
    """Stands still until it is told to move."""

    now: float = NOON

    def __call__(self) -> float:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Desk:
    """A store and the means to open apps over it."""

    store: Store
    folders: tuple[Folder, ...]
    clock: FrozenClock = field(default_factory=FrozenClock)

    def services(self, **settings: object) -> Services:
        settings.setdefault("language", "en")
        settings.setdefault("theme", "llmquiz-dark")
        return Services(
            self.store,
            Settings(**settings),  # type: ignore[arg-type]
            calendar=UTC_DAYS,
            clock=self.clock,
            catalog=Catalog([(FIXTURES / "labs", True)]),
            folders=self.folders,
        )

    def home(self, **settings: object) -> LlmquizApp:
        """The app on its home screen."""
        return LlmquizApp(self.services(**settings))

    def study(self, card: str | None = None, **settings: object) -> LlmquizApp:
        """The app in a session: of one card, or of all that is due."""
        return LlmquizApp(self.services(**settings), scope=Scope(card=card))

    def reviews(self) -> list[tuple[str, int]]:
        """Every answer that was not taken back: card and rating, oldest first."""
        sql = """SELECT card, rating FROM live_review JOIN schedule ON schedule.id = live_review.schedule
        ORDER BY live_review.id"""
        return [(card, rating) for card, rating in self.store.connection.execute(sql)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    folders = (Folder(FIXTURES / "decks", builtin=True),)
    with Store.open(tmp_path / "llmquiz.db") as store:
        load_into(store, now=NOON, library=Library(folders))
        yield Desk(store, folders)


@pytest.fixture
def own_deck(desk: Desk, tmp_path: Path) -> Callable[[str], Path]:
    """Writes a deck that a test may edit."""

    def write(markdown: str) -> Path:
        folder = tmp_path / "decks"
        folder.mkdir(exist_ok=True)
        path = folder / "mine.en.md"
        path.write_text(markdown, encoding="utf-8")
        desk.folders = (*desk.folders, Folder(folder, builtin=False))
        load_into(desk.store, now=desk.clock(), library=Library(desk.folders))
        return path

    return write
