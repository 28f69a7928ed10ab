"""A merge is all or nothing, a second one changes nothing, and what was done here is never lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from llmquiz.core.card import Card, CardText, Kind, Lang
from llmquiz.core.errors import ImportFileError
from llmquiz.core.options import Options
from llmquiz.core.rating import Rating
from llmquiz.core.schedule import State
from llmquiz.deck.library import Folder, Library, load_into
from llmquiz.store import Store, codec
from llmquiz.store.incoming import AnkiCard, Incoming, IncomingDeck, IncomingNote, IncomingPart
from llmquiz.study.session import Session
from llmquiz.study.statistics import collect
from llmquiz.study.tally import daily
from tests.store.incoming import (
    TODAY,
    answer,
    collection,
    dump,
    make_incoming,
    make_note,
    note_card,
    reviewed,
    staged,
    take,
)
from tests.support.making import CALENDAR, DAY, NOON, FrozenClock, make_card, make_cloze, make_deck


def session(store: Store, clock: FrozenClock | None = None) -> Session:
    return Session(store, Options(bury_siblings=True), calendar=CALENDAR, clock=clock or FrozenClock())


def study(store: Store, ratings: int = 2) -> int:
    """Answer so many cards; returns how many were there."""
    sitting, answered = session(store), 0
    while answered < ratings and sitting.next():
        sitting.rate(Rating.GOOD, duration_ms=900)
        answered += 1
    return answered


def part(store: Store, card: str, ordinal: int = 0) -> IncomingPart:
    """What the store has of a part, as an import would bring it."""
    found = next(part for part in store.progress_of(card) if part.ordinal == ordinal)
    return IncomingPart(ordinal, found.schedule, found.suspended, found.buried_on, found.flag, found.leech)


def test_all_of_it_comes_in(store: Store) -> None:
    report = take(store, collection())
    assert (report.before.notes, report.after.notes, report.after.cards, report.after.reviews) == (0, 2, 3, 2)
    assert (report.notes_added, report.reviews_added, list(report.findings)) == (2, 2, [])
    assert not report.nothing
    assert part(store, "anki-a") == IncomingPart(0, reviewed(5), flag=2)
    assert part(store, "anki-a", 1).suspended
    history = store.history(store.progress_of("anki-a")[0].id)
    assert [(one.day, one.rating) for one in history] == [(TODAY - 20, Rating.GOOD), (TODAY - 5, Rating.EASY)]
    assert [hit.card_id for hit in store.search("anki-a")] == ["anki-a"]
    row = store.connection.execute("SELECT tags, fields FROM anki_note WHERE card = 'anki-a'").fetchone()
    assert row == ("tag", '<img src="a.png">a\x1fback')
    assert store.connection.execute("SELECT id, factor, kept FROM anki_card ORDER BY id").fetchall() == [
        (11, 2300, "{}"),
        (12, 0, '{"pos":7}'),
    ]
    assert store.connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_second_time_changes_nothing(store: Store) -> None:
    take(store, collection())
    before = dump(store)
    report = take(store, collection())
    assert report.nothing
    assert report.notes_unchanged == 2
    assert dump(store) == before


def test_nor_after_studying_in_between(store: Store) -> None:
    take(store, collection())
    store.set_suspended("anki-a", False, now=NOON, calendar=CALENDAR)
    assert study(store, 4) == 4
    store.set_flag("anki-b", 3, now=NOON, calendar=CALENDAR)
    before = dump(store)
    assert take(store, collection()).nothing
    assert dump(store) == before
    undone = session(store).undo()
    assert undone is not None
    assert undone.kind == "flag"


def test_a_dry_run_tells_the_truth_and_changes_nothing(store: Store) -> None:
    store.sync([make_deck(make_card("own"))], now=NOON)
    before = dump(store)
    tried = take(store, replace(collection(), media=make_incoming(media=[("a.png", b"x")]).media), dry_run=True)
    assert dump(store) == before
    assert not (store.path.parent / "media").exists()
    assert take(store, replace(collection(), media=make_incoming(media=[("a.png", b"x")]).media)) == tried


def test_a_fault_while_reading_leaves_nothing(store: Store) -> None:
    def notes() -> Iterator[IncomingNote]:
        for number in range(600):
            yield make_note(f"n{number}", IncomingPart(0))
        raise ImportFileError("x.apkg: ends too early")

    before = dump(store)
    with pytest.raises(ImportFileError):
        take(store, replace(make_incoming(media=[("a.png", b"x")]), notes=notes()))
    assert dump(store) == before
    assert list((store.path.parent / "media").iterdir()) == []


def test_progress_counts_notes(store: Store) -> None:
    seen: list[int] = []
    take(store, make_incoming(*(make_note(f"n{number}", sides=1) for number in range(501))), progress=seen.append)
    assert seen == [500, 501]


def test_a_newer_export_brings_what_is_new(store: Store) -> None:
    take(store, collection())
    later = IncomingPart(0, reviewed(1, due_in=30, reps=3), reviews=[answer(20), answer(5, 4), answer(1)])
    report = take(store, make_incoming(make_note("a", later, IncomingPart(1)), make_note("c", sides=1)))
    assert (report.notes_added, report.notes_unchanged, report.schedules_changed, report.reviews_added) == (1, 1, 2, 1)
    assert part(store, "anki-a") == IncomingPart(0, reviewed(1, due_in=30, reps=3))


def test_the_later_answer_decides(store: Store) -> None:
    take(store, collection())
    clock = FrozenClock(NOON + 4 * DAY)
    sitting = session(store, clock)
    while prompt := sitting.next():
        sitting.rate(Rating.EASY, duration_ms=1)
        if prompt.card.id == "anki-a":
            break
    ours = part(store, "anki-a")
    earlier = IncomingPart(0, reviewed(-3, reps=9), flag=5, reviews=[answer(-3)])
    take_later(store, make_incoming(make_note("a", earlier, IncomingPart(1))))
    assert part(store, "anki-a") == ours
    assert len(store.history(store.progress_of("anki-a")[0].id)) == 4
    theirs = IncomingPart(0, reviewed(-5, due_in=40, reps=9), flag=5)
    take_later(store, make_incoming(make_note("a", theirs, IncomingPart(1))))
    assert part(store, "anki-a") == theirs


def take_later(store: Store, incoming: Incoming) -> None:
    from llmquiz.store.intake import merge

    merge(store, incoming, calendar=CALENDAR, now=NOON + 9 * DAY)


def test_what_was_set_without_an_answer_is_carried_unless_the_learner_set_it_here(store: Store) -> None:
    take(store, collection())
    moved = IncomingPart(0, reviewed(5, due_in=50), flag=7, anki=AnkiCard(11, 1, 2300))
    report = take(store, make_incoming(make_note("a", moved, IncomingPart(1, suspended=True))))
    assert report.schedules_changed == 1
    assert part(store, "anki-a") == IncomingPart(0, reviewed(5, due_in=50), flag=7)
    store.set_flag("anki-a", 1, now=NOON, calendar=CALENDAR)
    assert take(store, collection()).schedules_changed == 0
    assert part(store, "anki-a").flag == 1


@pytest.mark.parametrize("by_sql", [False, True])
def test_what_only_anki_keeps_of_a_card_is_taken_anew(store: Store, tmp_path: Path, by_sql: bool) -> None:
    def given(deck: int, kept: str, modified: int = 100) -> Incoming:
        studied = IncomingPart(0, reviewed(5), reviews=[answer(5)], anki=AnkiCard(11, deck, 2300, kept))
        note = make_note("a", studied, sides=1, modified=modified)
        return staged([note], tmp_path / "staged") if by_sql else make_incoming(note)

    def stored() -> tuple[int, str]:
        found: tuple[int, str] = store.connection.execute("SELECT deck, kept FROM anki_card").fetchone()
        return found

    take(store, given(1, '{"data":"old"}'))
    for deck, kept in ((1, '{"data":"new"}'), (2, '{"data":"new"}')):
        report = take(store, given(deck, kept))
        assert (report.schedules_changed, report.cards_renewed, report.nothing) == (0, 1, False)
        assert stored() == (deck, kept)
        assert take(store, given(deck, kept)).nothing
    assert take(store, given(1, '{"data":"old"}', modified=50)).nothing  # from before the note was changed
    store.set_flag("anki-a", 1, now=NOON, calendar=CALENDAR)
    take(store, given(3, '{"data":"newer"}'))
    assert stored() == (3, '{"data":"new"}')  # it belongs to a schedule that is not the card's any more


def test_an_older_export_takes_nothing_back(store: Store) -> None:
    take(store, collection())
    old = IncomingPart(0, reviewed(20, reps=1), reviews=[answer(20)])
    assert take(store, make_incoming(make_note("a", old, text="old", modified=50))).nothing


def test_text_is_replaced_by_a_newer_one_only(store: Store) -> None:
    take(store, collection())
    progress = part(store, "anki-a")
    assert take(store, make_incoming(make_note("a", text="older", modified=99))).notes_changed == 0
    assert take(store, make_incoming(make_note("a", text="newer", modified=101))).notes_changed == 1
    assert store.card("anki-a").text(Lang.EN).face(0).front == "front 0 of newer"
    assert [hit.card_id for hit in store.search("newer")] == ["anki-a"]
    assert len(store.search("front")) == 2
    assert store.search("older") == []
    assert part(store, "anki-a") == progress


def test_without_a_date_another_text_is_a_newer_one(store: Store) -> None:
    def incoming(answer: str) -> Incoming:
        card = make_card("csv-x", "csv-d", answer=answer)
        return Incoming("csv", [IncomingDeck("csv-d", {Lang.ZH: "卡"})], [IncomingNote(card, 0, [])], 1)

    take(store, incoming("one"))
    assert take(store, incoming("one")).nothing
    assert take(store, incoming("two")).notes_changed == 1
    assert store.card("csv-x").text(Lang.EN).answer == "two"
    assert [hit.card_id for hit in store.search("two")] == ["csv-x"]


def test_a_lost_side_is_retired_and_comes_back_with_its_history(store: Store) -> None:
    take(store, make_incoming(make_note("a", IncomingPart(0), IncomingPart(1, reviewed(5), reviews=[answer(5)]))))
    take(store, make_incoming(make_note("a", IncomingPart(0), sides=1, modified=101)))
    assert [one.retired for one in store.progress_of("anki-a")] == [False, True]
    take(store, make_incoming(make_note("a", modified=102)))
    assert [one.retired for one in store.progress_of("anki-a")] == [False, False]
    assert len(store.history(store.progress_of("anki-a")[1].id)) == 1


def test_a_note_moves_with_its_deck(store: Store) -> None:
    take(store, collection())
    incoming = make_incoming(make_note("a", deck="anki-e"), deck="anki-e")
    assert take(store, incoming).notes_changed == 1
    assert store.card("anki-a").deck == "anki-e"
    assert [deck.id for deck in store.deck_counts(TODAY, NOON, Options())] == ["anki-d", "anki-e"]


def test_answers_of_one_millisecond(store: Store) -> None:
    def incoming() -> Incoming:
        shared = [IncomingPart(0, reviewed(5), reviews=[answer(5), answer(5, at_ms=1)])]
        return make_incoming(*(make_note(name, *shared, sides=1) for name in "abc"))

    take(store, incoming())
    ids = [row[0] for row in store.connection.execute("SELECT id FROM review ORDER BY id")]
    assert ids == list(range(ids[0], ids[0] + 6))
    assert [len(store.history(one)) for one in (1, 2, 3)] == [2, 2, 2]
    before = dump(store)
    take(store, incoming())
    assert dump(store) == before


def test_an_answer_taken_back_here_stays_so(store: Store) -> None:
    own = make_note("a", IncomingPart(0), sides=1)
    take(store, make_incoming(own))
    sitting = session(store)
    sitting.next()
    sitting.rate(Rating.AGAIN, duration_ms=1)
    review = store.connection.execute("SELECT id FROM review").fetchone()[0]
    sitting.undo()
    again = IncomingPart(0, reviewed(-0.001), reviews=[answer(0)._replace(id=review, rating=1)])
    take(store, make_incoming(replace(own, parts=[again])))
    assert store.connection.execute("SELECT count(*) FROM review").fetchone()[0] == 1
    assert store.history(1) == []


def test_a_card_set_to_a_date_is_no_answer(store: Store) -> None:
    change = answer(6, 0)._replace(type=5, factor=0)
    incoming = [make_incoming(make_note("a", IncomingPart(0, reviewed(5), reviews=[change, answer(5)]))) for _ in "12"]
    assert take(store, incoming[0]).reviews_added == 1
    rows = "SELECT id, schedule, interval, last_interval, factor, duration_ms, type FROM anki_reschedule"
    assert store.connection.execute(rows).fetchall() == [(change.id, 1, 9, 4, 0, 1500, 5)]
    assert take(store, incoming[1]).nothing


def test_the_second_answer_of_a_day_does_not_count_for_retention(store: Store) -> None:
    twice = [answer(5), answer(5, at_ms=60_000), answer(4)]
    take(store, make_incoming(make_note("a", IncomingPart(0, reviewed(4), reviews=twice))))
    assert [one.retrievability for one in store.history(1)] == [None, 1.0, None]


def test_our_own_cards_take_progress_alone(store: Store) -> None:
    store.sync([make_deck(make_card("own"), make_cloze("gaps", 2))], now=NOON)
    before = store.cards()
    own = replace(make_note("x", IncomingPart(0, reviewed(5), reviews=[answer(5)])), keeps_text=True)
    notes = [
        replace(own, card=replace(own.card, id="own", texts={})),
        replace(own, card=replace(own.card, id="gaps"), parts=[IncomingPart(2, reviewed(5)), IncomingPart(7)]),
        replace(own, card=replace(own.card, id="gone")),
        replace(own, card=replace(own.card, id="gaps"), parts=[IncomingPart(1, reviewed(7))]),  # its further faces
    ]
    report = take(store, make_incoming(*notes))
    assert (report.notes_added, report.notes_unchanged, report.schedules_changed, report.reviews_added) == (0, 3, 3, 1)
    assert sorted(report.findings) == [
        "cards of llmquiz that no deck has any more, left out: 1",
        "parts that their card lacks or has already, left out: 1",
    ]
    assert store.cards() == before
    assert part(store, "gaps", 2) == IncomingPart(2, reviewed(5))
    assert part(store, "gaps", 1) == IncomingPart(1, reviewed(7))
    assert store.connection.execute("SELECT count(*) FROM anki_card").fetchone()[0] == 0


def test_nothing_from_before_is_taken_back(store: Store) -> None:
    take(store, make_incoming(make_note("a", sides=1)))
    study(store, 1)
    theirs = IncomingPart(0, reviewed(-1, reps=9))
    take(store, make_incoming(make_note("a", theirs, sides=1)))
    assert session(store).undo() is None
    assert part(store, "anki-a") == theirs
    store.set_flag("anki-a", 4, now=NOON, calendar=CALENDAR)
    assert session(store).undo() is not None


def test_deck_files_leave_imported_decks_alone(store: Store) -> None:
    take(store, collection())
    imported = [row for row in dump(store)["card"] if "anki-" in row]
    decks = [
        make_deck(make_card("own"), note_card("a", ("stolen", "text"), deck="deck"), position=7),
        make_deck(make_card("other", deck="anki-d"), deck="anki-d"),
    ]
    assert store.sync(decks, now=NOON, gone=["anki-d"]).added == 1
    assert [row for row in dump(store)["card"] if "anki-" in row] == imported
    assert [deck.id for deck in store.deck_counts(TODAY, NOON, Options())] == ["deck", "anki-d"]
    prompt = session(store).next()
    assert prompt is not None
    assert prompt.card.id == "own"


def test_decks_without_files_are_not_gone(store: Store, tmp_path_factory: pytest.TempPathFactory) -> None:
    take(store, collection())
    report = load_into(store, now=NOON, library=Library([Folder(tmp_path_factory.mktemp("decks"), builtin=False)]))
    assert report is not None
    assert report.nothing
    assert len(store.cards()) == 2


def test_a_file_keeps_its_deck(store: Store) -> None:
    store.sync([make_deck(make_card("own", deck="anki-d"), deck="anki-d")], now=NOON)
    first = take(store, collection())
    assert list(first.findings) == ["deck 'anki-d': another deck has this id; this one is 'anki-d-2'"]
    assert (store.card("own").deck, store.card("anki-a").deck) == ("anki-d", "anki-d-2")
    assert store.connection.execute("SELECT deck FROM anki_deck").fetchone()[0] == "anki-d-2"
    assert take(store, collection()).nothing


def test_a_deck_that_is_not_described(store: Store) -> None:
    report = take(store, make_incoming(make_note("a", deck="anki-other")))
    assert list(report.findings) == ["deck 'anki-other' has notes but is not described; its id is its title"]
    assert store.card("anki-a").deck == "anki-other"


def test_an_imported_note_is_studied_as_any_card(store: Store) -> None:
    take(store, make_incoming(make_note("a"), make_note("b", sides=1)))
    sitting = session(store)
    prompt = sitting.next()
    assert prompt is not None
    assert (prompt.card.id, prompt.ordinal) == ("anki-a", 0)
    assert sitting.rate(Rating.EASY, duration_ms=900).buried_siblings == 1
    following = sitting.next()
    assert following is not None
    assert following.card.id == "anki-b"
    assert store.deck_counts(TODAY, NOON, Options())[0].total == 2


def test_statistics_count_what_was_imported(store: Store) -> None:
    take(store, collection())
    stats = collect(store, NOON, CALENDAR, Options())
    assert (stats.cards.young, stats.cards.new, stats.cards.suspended) == (1, 1, 1)
    assert sum(day.reviews for day in daily(store).values()) == 2


def test_a_card_whose_file_is_gone_is_taken_over(store: Store) -> None:
    own = note_card("a", ("ours", "text"), deck="deck")
    store.sync([make_deck(own)], now=NOON)
    study(store, 1)
    assert take(store, collection()).notes_unchanged == 1  # the file's text stands
    assert store.card("anki-a").deck == "deck"
    store.sync([], now=NOON, gone=["deck"])
    assert take(store, collection()).notes_changed == 1
    assert store.card("anki-a").deck == "anki-d"
    assert [one.retired for one in store.progress_of("anki-a")] == [False, False]


@pytest.mark.parametrize("kind", [Kind.OPEN, Kind.NOTE, Kind.CLOZE])
def test_a_card_is_stored_as_the_codec_writes_it(tmp_path: Path, kind: Kind) -> None:
    cards: dict[Kind, Card] = {
        Kind.OPEN: make_card("a", 'the "deck":"x", of', chinese='"deck":"b",'),
        Kind.CLOZE: make_cloze("deck", 3),
        Kind.NOTE: note_card("b", ('"deck"', "x"), deck='anki-卡"d'),
    }
    card = cards[kind]
    stored = "SELECT content FROM card WHERE id = ?"
    for taken in (False, True):
        with Store.open(tmp_path / f"{taken}.db") as other:
            if taken:
                other.sync([make_deck(make_card("own", deck=card.deck), deck=card.deck)], now=NOON)
            take(other, replace(make_incoming(IncomingNote(card, 0, []), deck=card.deck), anki_decks={}))
            (found,) = other.connection.execute(stored, (card.id,)).fetchone()
            there = replace(card, deck=f"{card.deck}-2") if taken else card
            assert found == codec.encode_card(there)
            assert other.card(card.id) == there


def test_a_search_finds_every_side_and_shows_no_line_twice(store: Store) -> None:
    sides = [("**[...]** of two", "one of two\nnote"), ("one of **[...]**", "one of **two**\nnote"), ("aloud", "note")]
    card = note_card("a", *sides)
    take(store, make_incoming(IncomingNote(replace(card, texts={Lang.ZH: card.text(Lang.EN)}), 0, [])))
    assert [hit.card_id for hit in store.search("aloud")] == ["anki-a"]
    words = store.connection.execute("SELECT en, zh, facts FROM card_text").fetchone()
    assert words == ("", "aloud\none of two\nnote", "anki-a basic tag")


def test_notes_are_indexed_when_they_are_first_searched(store: Store) -> None:
    def indexed() -> int:
        return int(store.connection.execute("SELECT count(*) FROM card_text").fetchone()[0])

    take(store, collection())
    with Store.open(store.path, read_only=True) as reader:
        assert reader.search("tag") == []
    assert indexed() == 0
    take(store, make_incoming(make_note("a", text="newer", modified=101), make_note("c", sides=1)))
    assert [hit.card_id for hit in store.search("")] == ["anki-a", "anki-b", "anki-c"]
    assert [hit.card_id for hit in store.search("newer")] == ["anki-a"]
    assert indexed() == 3
    before = dump(store)
    assert len(store.search("tag")) == 3
    assert dump(store) == before


def test_a_card_of_a_state_that_cannot_be_asked(store: Store) -> None:
    text = CardText("", "")
    bad = [replace(note_card("x"), texts={}), replace(note_card("y"), texts={Lang.EN: text}), make_card("", "anki-d")]
    report = take(store, make_incoming(*(IncomingNote(card, 0, []) for card in bad)))
    assert list(report.findings) == ["notes without an id or a question, left out: 3"]
    assert report.after.notes == 0


def test_new_cards_have_no_memory_of_being_forgotten(store: Store) -> None:
    forgotten = replace(reviewed(5), state=State.NEW)
    report = take(store, make_incoming(make_note("a", IncomingPart(0, forgotten), sides=1)))
    schedule = part(store, "anki-a").schedule
    assert (schedule.state, schedule.memory, schedule.last_review, schedule.reps) == (State.NEW, None, None, 2)
    assert list(report.findings) == ["schedules with numbers out of range, brought into it: 1"]
