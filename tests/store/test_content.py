"""Sync by stable id: progress belongs to the id, whatever happens to the text, the deck or the file."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from llmquiz.core.card import CardText, Lang
from llmquiz.core.errors import StoreError
from llmquiz.core.options import Options
from llmquiz.store import Store, SyncReport
from tests.support.making import NOON, make_card, make_cloze, make_deck


def ordinals(store: Store, card: str) -> list[tuple[int, bool]]:
    return [(part.ordinal, part.retired) for part in store.progress_of(card)]


def changed_at(store: Store, card: str) -> int:
    return int(store.connection.execute("SELECT changed_at FROM card WHERE id = ?", (card,)).fetchone()[0])


def study_once(store: Store, card: str) -> None:
    store.connection.execute("UPDATE schedule SET state = 2, due = 9, reps = 4 WHERE card = ?", (card,))


def test_adds_cards_and_gives_them_back(store: Store) -> None:
    card = make_card("a", chinese="为什么")
    assert store.sync([make_deck(card)], now=NOON) == SyncReport(added=1)
    assert store.card("a") == card


def test_nothing_changes_the_second_time(store: Store) -> None:
    decks = [make_deck(make_card("a"), make_cloze("b", 2))]
    store.sync(decks, now=NOON)
    assert store.sync(decks, now=NOON + 5).nothing
    assert changed_at(store, "a") == NOON


def test_an_edit_keeps_the_schedule_and_stamps_the_change(store: Store) -> None:
    store.sync([make_deck(make_card("a"))], now=NOON)
    study_once(store, "a")
    assert store.sync([make_deck(make_card("a", answer="another reason"))], now=NOON + 9) == SyncReport(changed=1)
    assert store.progress_of("a")[0].schedule.reps == 4
    assert changed_at(store, "a") == NOON + 9
    assert store.card("a").text(Lang.EN).answer == "another reason"


def test_a_vanished_card_is_archived_and_comes_back_with_its_history(store: Store) -> None:
    both, one = make_deck(make_card("a"), make_card("b")), make_deck(make_card("b"))
    store.sync([both], now=NOON)
    study_once(store, "a")
    assert store.sync([one], now=NOON + 1) == SyncReport(archived=1)
    assert ordinals(store, "a") == [(0, True)]
    assert [card.id for card in store.cards()] == ["b"]
    assert store.card("a").id == "a"
    assert store.sync([both], now=NOON + 2) == SyncReport(restored=1)
    assert ordinals(store, "a") == [(0, False)]
    assert store.progress_of("a")[0].schedule.reps == 4


def test_decks_that_are_not_named_stay(store: Store) -> None:
    store.sync([make_deck(make_card("a", "one"), deck="one"), make_deck(make_card("b", "two"), deck="two")], now=NOON)
    assert store.sync([make_deck(make_card("a", "one"), deck="one")], now=NOON).nothing
    assert store.sync([], now=NOON, gone=["two"]) == SyncReport(archived=1)
    assert [counts.id for counts in store.deck_counts(0, NOON, Options())] == ["one"]


def test_missing_cards_stay_if_asked_to(store: Store) -> None:
    store.sync([make_deck(make_card("a"), make_card("b"))], now=NOON)
    assert store.sync([make_deck(make_card("a"))], now=NOON, archive_missing=False).nothing


def test_a_card_may_move_to_another_deck(store: Store) -> None:
    store.sync([make_deck(make_card("a", "one"), deck="one"), make_deck(deck="two")], now=NOON)
    study_once(store, "a")
    report = store.sync([make_deck(deck="one"), make_deck(make_card("a", "two"), deck="two")], now=NOON + 7)
    assert report == SyncReport()
    assert store.card("a").deck == "two"
    assert store.progress_of("a")[0].schedule.reps == 4
    assert changed_at(store, "a") == NOON


def test_deletions_of_a_cloze_come_and_go_with_their_history(store: Store) -> None:
    store.sync([make_deck(make_cloze("c", 3))], now=NOON)
    study_once(store, "c")
    store.sync([make_deck(make_cloze("c", 2))], now=NOON)
    assert ordinals(store, "c") == [(1, False), (2, False), (3, True)]
    store.sync([make_deck(make_cloze("c", 4))], now=NOON)
    assert ordinals(store, "c") == [(1, False), (2, False), (3, False), (4, False)]
    assert [part.schedule.reps for part in store.progress_of("c")] == [4, 4, 4, 0]


def test_one_id_in_two_decks_is_refused_and_changes_nothing(store: Store) -> None:
    decks = [make_deck(make_card("a", "one"), deck="one"), make_deck(make_card("a", "two"), deck="two")]
    with pytest.raises(StoreError, match=r"card 'a' stands in decks 'one' and 'two'; rename one"):
        store.sync(decks, now=NOON)
    assert store.cards() == []


def test_new_cards_queue_in_the_order_of_decks_then_of_the_document(store: Store) -> None:
    late = make_deck(make_card("z1", "a-late"), make_card("a1", "a-late"), deck="a-late", position=20)
    early = make_deck(make_card("m1", "z-early"), deck="z-early", position=10)
    store.sync([late, early], now=NOON)
    rows = store.connection.execute("SELECT card FROM schedule ORDER BY due").fetchall()
    assert [row[0] for row in rows] == ["m1", "z1", "a1"]
    store.sync([replace(late, position=1), early], now=NOON)
    rows = store.connection.execute("SELECT card FROM schedule ORDER BY due").fetchall()
    assert [row[0] for row in rows] == ["z1", "a1", "m1"]


def test_unknown_cards_are_named_with_the_next_step(store: Store) -> None:
    with pytest.raises(StoreError, match=r"card 'nope' is unknown; `llmquiz search` finds cards"):
        store.card("nope")


def test_every_part_of_a_card_survives_the_store(store: Store) -> None:
    from datetime import date

    from llmquiz.core.card import Check, Choice, LabLink

    text = CardText("f", "a", "d", ("k1", "k2"), "p", (Choice("x", True), Choice("y", False, "w")), ("$s$: size",))
    card = make_card(
        "full",
        texts={Lang.EN: text, Lang.ZH: CardText("前", "答\n案")},
        tags=("t",),
        lab=LabLink("kv", {"n": "2"}, "speed"),
        follow_ups=("a",),
        sources=("s",),
        checks=(Check("1+1", "2"),),
        as_of=date(2026, 11, 22),
    )
    store.sync([make_deck(card)], now=NOON)
    assert store.card("full") == card


@pytest.mark.slow
def test_a_hundred_thousand_cards_sync_in_seconds(store: Store) -> None:
    deck = make_deck(*(make_card(f"card-{number}") for number in range(100_000)))
    started = time.process_time()
    assert store.sync([deck], now=NOON).added == 100_000
    assert store.sync([deck], now=NOON).nothing
    assert time.process_time() - started < 60
