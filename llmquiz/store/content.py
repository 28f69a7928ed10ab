"""Cards from decks into the store, by stable id: an edit keeps the schedule, a vanished card is archived.

A deck that came from another program has an `origin` and no file: nothing here touches it or its cards.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from llmquiz.core.card import Card, Deck, Lang
from llmquiz.core.errors import StoreError
from llmquiz.store.codec import digest, encode_card
from llmquiz.store.records import SyncReport
from llmquiz.store.search import index_rows

CARDS_PER_DECK = 1_000_000
"""A new card's place in the queue is its deck's rank times this, plus its position in the deck."""

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class _Stored:
    deck: str
    digest: str
    position: int
    archived: bool


@dataclass(slots=True)
class _Plan:
    added: list[tuple[Card, int]] = field(default_factory=list)
    changed: list[tuple[Card, int]] = field(default_factory=list)
    moved: list[tuple[Card, int]] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)
    archived: list[str] = field(default_factory=list)


def sync(
    connection: sqlite3.Connection, decks: Sequence[Deck], now: float, *, archive_missing: bool, gone: Collection[str]
) -> SyncReport:
    """Bring the store in line with `decks`, in the transaction that the caller holds; other decks stay as they are."""
    at = int(now)
    foreign = {row[0] for row in connection.execute("SELECT id FROM deck WHERE origin IS NOT NULL")}
    decks = [deck for deck in decks if deck.id not in foreign]
    stored = _stored(connection)
    brought = {card_id for card_id, was in stored.items() if was.deck in foreign}
    places = {card_id: place for card_id, place in _places(decks).items() if card_id not in brought}
    plan = _plan(places, stored, {deck.id for deck in decks} if archive_missing else set(), set(gone) - foreign)
    _write_decks(connection, decks)
    _add(connection, plan.added, at)
    _change(connection, plan.changed, at)
    _move(connection, plan.moved)
    _restore(connection, plan.restored)
    _archive(connection, plan.archived, at)
    archive = "UPDATE deck SET archived_at = ? WHERE id = ? AND origin IS NULL"
    connection.executemany(archive, [(at, deck) for deck in gone])
    touched = [card for card, _ in (*plan.added, *plan.changed)]
    _schedule_parts(connection, [*touched, *(places[card_id][0] for card_id in plan.restored)])
    _index(connection, [card.id for card in touched])
    queue_new_cards(connection)
    return SyncReport(len(plan.added), len(plan.changed), len(plan.archived), len(plan.restored))


def _places(decks: Sequence[Deck]) -> dict[str, tuple[Card, int]]:
    places: dict[str, tuple[Card, int]] = {}
    for deck in decks:
        for position, card in enumerate(deck.cards):
            if other := places.get(card.id):
                raise StoreError(f"card '{card.id}' stands in decks '{other[0].deck}' and '{card.deck}'; rename one")
            places[card.id] = (card, position)
    return places


def _stored(connection: sqlite3.Connection) -> dict[str, _Stored]:
    rows = connection.execute("SELECT id, deck, digest, position, archived_at IS NOT NULL FROM card")
    return {row[0]: _Stored(row[1], row[2], row[3], bool(row[4])) for row in rows}


def _plan(places: dict[str, tuple[Card, int]], stored: dict[str, _Stored], complete: set[str], gone: set[str]) -> _Plan:
    plan = _Plan()
    for card_id, (card, position) in places.items():
        was = stored.get(card_id)
        if was is None:
            plan.added.append((card, position))
            continue
        if was.digest != digest(card):
            plan.changed.append((card, position))
        elif (was.deck, was.position) != (card.deck, position):
            plan.moved.append((card, position))
        if was.archived:
            plan.restored.append(card_id)
    plan.archived = [
        card_id
        for card_id, was in stored.items()
        if not was.archived and card_id not in places and was.deck in complete | gone
    ]
    return plan


def _write_decks(connection: sqlite3.Connection, decks: Sequence[Deck]) -> None:
    connection.executemany(
        """INSERT INTO deck (id, title_en, title_zh, intro_en, intro_zh, position, builtin) VALUES (?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (id) DO UPDATE SET title_en = excluded.title_en, title_zh = excluded.title_zh,
        intro_en = excluded.intro_en, intro_zh = excluded.intro_zh, position = excluded.position,
        builtin = excluded.builtin, archived_at = NULL""",
        [
            (
                deck.id,
                deck.titles.get(Lang.EN),
                deck.titles.get(Lang.ZH),
                deck.intros.get(Lang.EN),
                deck.intros.get(Lang.ZH),
                deck.position,
                int(deck.builtin),
            )
            for deck in decks
        ],
    )


def _add(connection: sqlite3.Connection, cards: list[tuple[Card, int]], at: int) -> None:
    connection.executemany(
        """INSERT INTO card (id, deck, topic, kind, level, frequency, position, digest, added_at, changed_at, content)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        [(card.id, *_facts(card, position), digest(card), at, at, encode_card(card)) for card, position in cards],
    )


def _change(connection: sqlite3.Connection, cards: list[tuple[Card, int]], at: int) -> None:
    connection.executemany(
        """UPDATE card SET deck = ?, topic = ?, kind = ?, level = ?, frequency = ?, position = ?, digest = ?,
        changed_at = ?, content = ? WHERE id = ?""",
        [(*_facts(card, position), digest(card), at, encode_card(card), card.id) for card, position in cards],
    )


def _move(connection: sqlite3.Connection, cards: list[tuple[Card, int]]) -> None:
    connection.executemany(
        "UPDATE card SET deck = ?, position = ?, content = ? WHERE id = ?",
        [(card.deck, position, encode_card(card), card.id) for card, position in cards],
    )


def _restore(connection: sqlite3.Connection, card_ids: list[str]) -> None:
    connection.executemany("UPDATE card SET archived_at = NULL WHERE id = ?", [(card_id,) for card_id in card_ids])


def _archive(connection: sqlite3.Connection, card_ids: list[str], at: int) -> None:
    connection.executemany("UPDATE card SET archived_at = ? WHERE id = ?", [(at, card_id) for card_id in card_ids])
    connection.executemany("UPDATE schedule SET retired = 1 WHERE card = ?", [(card_id,) for card_id in card_ids])


def _facts(card: Card, position: int) -> tuple[str, str, str, str, str, int]:
    return card.deck, card.topic, card.kind.value, card.level.value, card.frequency.value, position


def _schedule_parts(connection: sqlite3.Connection, cards: Iterable[Card]) -> None:
    """One schedule for each part of a card. A part that is gone is retired; if it comes back, so does its history."""
    parts = [(card.id, ordinal) for card in cards for ordinal in card.ordinals]
    connection.executemany("UPDATE schedule SET retired = 1 WHERE card = ?", {(card_id,) for card_id, _ in parts})
    connection.executemany(
        "INSERT INTO schedule (card, ordinal) VALUES (?, ?) ON CONFLICT (card, ordinal) DO UPDATE SET retired = 0",
        parts,
    )


def _index(connection: sqlite3.Connection, card_ids: list[str]) -> None:
    for start in range(0, len(card_ids), _CHUNK):
        chunk = card_ids[start : start + _CHUNK]
        marks = ", ".join("?" * len(chunk))
        sql = f"SELECT number, content, NULL FROM card WHERE id IN ({marks})"
        index_rows(connection, connection.execute(sql, chunk))


def ranks(connection: sqlite3.Connection) -> dict[str, int]:
    """The decks in the order in which their new cards come up: those of files first, then what was imported."""
    decks = connection.execute(
        "SELECT id FROM deck WHERE archived_at IS NULL ORDER BY origin IS NOT NULL, position, id"
    )
    return {deck: rank for rank, (deck,) in enumerate(decks)}


def queue_new_cards(connection: sqlite3.Connection) -> None:
    """Give each new card its place in the queue: decks in their order, cards as their document has them."""
    rank = ranks(connection)
    rows = connection.execute(
        """SELECT schedule.id, due, deck, position FROM schedule JOIN card ON card.id = schedule.card
        WHERE state = 0 AND retired = 0"""
    )
    places = [(rank.get(deck, 0) * CARDS_PER_DECK + position, schedule, due) for schedule, due, deck, position in rows]
    changed = [(place, schedule) for place, schedule, due in places if place != due]
    connection.executemany("UPDATE schedule SET due = ? WHERE id = ?", changed)
