"""Decks, stores that were studied for weeks, and the real Anki to import them into."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from llmquiz.core.card import Card, CardText, Choice, Deck, Frequency, Kind, LabLink, Lang, Level
from llmquiz.core.day import Calendar
from llmquiz.core.options import Options
from llmquiz.core.rating import Rating
from llmquiz.store import Store
from llmquiz.study.session import Session

DAY = 86_400

anki_collection = pytest.importorskip("anki.collection")


@pytest.fixture(autouse=True)
def no_fuzz_in_anki(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANKI_TEST_MODE", "1")


class Desk:
    """A real Anki collection that takes packages."""

    def __init__(self, folder: Path, created_at: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.col = anki_collection.Collection(str(folder / "collection.anki2"))
        if created_at is not None:
            self.col.db.execute("UPDATE col SET crt = ?", created_at)
            self.col.close()
            self.col.reopen()
        self.col.set_config("fsrs", True)

    def take(self, package: Path, *, schedule: bool = True, presets: bool = True) -> dict[str, int]:
        """Import `package`; how many notes were new, updated, duplicate and conflicting."""
        options = anki_collection.ImportAnkiPackageOptions(with_scheduling=schedule, with_deck_configs=presets)
        request = anki_collection.ImportAnkiPackageRequest(package_path=str(package), options=options)
        log = self.col.import_anki_package(request).log
        return {kind: len(getattr(log, kind)) for kind in ("new", "updated", "duplicate", "conflicting")}

    def note(self, card_id: str):
        return self.col.get_note(self.col.db.scalar("SELECT id FROM notes WHERE guid = ?", f"llmquiz:{card_id}"))

    def cards(self, card_id: str) -> list:
        return sorted(self.note(card_id).cards(), key=lambda card: card.ord)

    def card(self, card_id: str, ordinal: int = 0):
        return next(card for card in self.cards(card_id) if card.ord == max(ordinal - 1, 0))

    def rows(self, table: str) -> list[tuple]:
        return [tuple(row) for row in self.col.db.all(f"SELECT * FROM {table} ORDER BY 1")]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    """Makes Anki collections, and closes them."""
    made: list[Desk] = []

    def make(created_at: int | None = None) -> Desk:
        made.append(Desk(tmp_path / f"anki{len(made)}", created_at))
        return made[-1]

    yield make
    for one in made:
        one.col.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "llmquiz.db") as opened:
        yield opened


def text(front: str = "Why?", answer: str = "Because.", **parts: object) -> CardText:
    return CardText(front, answer, **parts)


def card(card_id: str = "one", kind: Kind = Kind.OPEN, deck: str = "kv-cache", **changes: object) -> Card:
    """A card in both languages; `en` and `zh` replace its texts."""
    texts = {
        Lang.EN: changes.pop("en", text(f"What is {card_id}?", "An idea.", key_points=("one", "two", "three"))),
        Lang.ZH: changes.pop("zh", text(f"什么是 {card_id}？", "一个想法。", key_points=("一", "二", "三"))),
    }
    texts = changes.pop("texts", {lang: it for lang, it in texts.items() if it is not None})
    facts = {"topic": "kv-cache", "level": Level.L1, "frequency": Frequency.HIGH, **changes}
    return Card(id=card_id, deck=deck, kind=kind, texts=texts, **facts)


def cloze(card_id: str = "gap", en: str = "{{c1::one}} and {{c2::two}}", zh: str = "{{c1::一}}和{{c2::二}}") -> Card:
    return card(card_id, Kind.CLOZE, en=text("Title", en), zh=text("标题", zh))


def choice(card_id: str = "pick") -> Card:
    def options(*texts: str) -> tuple[Choice, ...]:
        right, *wrong = texts
        return (Choice(right, True), *(Choice(it, False, f"why {it}") for it in wrong))

    en = text("How much?", "Counted.", choices=options("128 KiB", "256 KiB", "512 KiB", "64 KiB"))
    zh = text("多少？", "数出来的。", choices=options("一二八", "二五六", "五一二", "六十四"))
    return card(card_id, Kind.CHOICE, en=en, zh=zh)


def predict(card_id: str = "guess") -> Card:
    link = LabLink("kvcache", {"new-tokens": "256"}, metric="speedup")
    return card(card_id, Kind.PREDICT, lab=link)


def deck(
    *cards: Card, deck_id: str = "kv-cache", title: str = "KV cache", zh: str = "键值缓存", position: int = 1
) -> Deck:
    return Deck(deck_id, {Lang.EN: title, Lang.ZH: zh}, cards, {Lang.EN: "Remember $K$."}, position)


@pytest.fixture
def make() -> type:
    """Cards and decks: `make.card("id")`, `make.cloze()`, `make.deck(…)`."""

    class Make:
        pass

    for maker in (text, card, cloze, choice, predict, deck):
        setattr(Make, maker.__name__, staticmethod(maker))
    return Make


@dataclass
class Clock:
    now: float

    def __call__(self) -> float:
        return self.now


@dataclass
class Studied:
    """A store after weeks of study, up to this minute."""

    store: Store
    options: Options
    calendar: Calendar
    now: float
    undone: int = 0
    parts: list[tuple[int, str, int]] = field(default_factory=list)


def many(count: int) -> list[Card]:
    makers = (card, card, cloze, choice, predict)
    return [makers[number % len(makers)](f"card-{number}") for number in range(count)]


def study(store: Store, options: Options, *, days: int, seed: int, most_a_day: int = 10_000) -> Studied:
    """Study all of `store` on random days at random hours, with undoing, flags, suspensions and burials."""
    rng, end = random.Random(seed), time.time() - 60
    calendar, clock = Calendar(), Clock(0.0)
    session = Session(store, options, calendar=calendar, clock=clock, learn_ahead=0)
    studied = Studied(store, options, calendar, end)
    for days_ago in range(days, -1, -1):
        if days_ago and rng.random() < 0.25:
            continue
        clock.now = end - days_ago * DAY - rng.random() * 3 * 3600
        for _ in range(most_a_day):
            if clock.now >= end or session.next() is None:
                break
            studied.undone += _act(session, rng)
            clock.now += rng.random() * 6
    studied.parts = store.connection.execute("SELECT id, card, ordinal FROM schedule ORDER BY id").fetchall()
    return studied


def _act(session: Session, rng: random.Random) -> bool:
    """One answer, sometimes with something else; whether it was taken back."""
    if rng.random() < 0.05:
        session.flag(rng.randrange(8))
    if (what := rng.random()) < 0.01:
        session.suspend()
        return False
    if what < 0.02:
        session.bury()
        return False
    rating = rng.choices(list(Rating), weights=(20, 12, 60, 8))[0]
    session.rate(rating, duration_ms=rng.randrange(800, 50_000))
    if rng.random() < 0.04:
        session.undo()
        return True
    return False
