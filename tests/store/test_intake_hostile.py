"""Records that cannot be: each is brought into range or left out, with a line that says so; the rest comes in."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

import pytest

from llmquiz.core.card import Lang
from llmquiz.core.options import Options
from llmquiz.core.schedule import Memory, Schedule, State
from llmquiz.store import Store
from llmquiz.store.incoming import AnkiCard, AnkiNote, IncomingPart
from llmquiz.study.session import Session
from tests.store.incoming import TODAY, answer, dump, make_incoming, make_note, note_card, reviewed, take
from tests.support.making import CALENDAR, DAY, NOON, FrozenClock

SOUND = reviewed(5)
HUGE = 10**30


def bad_schedule(**fields: object) -> IncomingPart:
    return IncomingPart(0, replace(SOUND, **fields))  # type: ignore[arg-type]


BAD_SCHEDULES = {
    "due in the year 9999999": bad_schedule(due=9_999_999),
    "due no number": bad_schedule(due=nan),
    "due huge": bad_schedule(due=HUGE),
    "due before the calendar": bad_schedule(due=-HUGE),
    "learning due": bad_schedule(state=State.LEARNING, due=HUGE),
    "interval": bad_schedule(interval=10**12),
    "negative interval": bad_schedule(interval=-3),
    "stability": bad_schedule(memory=Memory(nan, 5.0)),
    "stability without end": bad_schedule(memory=Memory(inf, 5.0)),
    "difficulty": bad_schedule(memory=Memory(1.0, -inf)),
    "reps": bad_schedule(reps=-4),
    "lapses": bad_schedule(lapses=HUGE),
    "steps": bad_schedule(steps_left=-HUGE),
    "no last review": bad_schedule(last_review=None),
    "answered in the future": bad_schedule(last_review=NOON + 900 * DAY),
    "answered never": bad_schedule(last_review=nan),
    "learning never answered": bad_schedule(state=State.LEARNING, last_review=None, due=NOON + 60),
    "state": bad_schedule(state=9),
    "no state": bad_schedule(state=None),
    "text": bad_schedule(due="soon"),
}
BAD_PARTS = {
    "flag": IncomingPart(0, SOUND, flag=9),
    "flag huge": IncomingPart(0, SOUND, flag=HUGE),
    "buried": IncomingPart(0, SOUND, buried_on=HUGE),
    "card id": IncomingPart(0, SOUND, anki=AnkiCard(HUGE, 1, 1)),
    "card factor": IncomingPart(0, SOUND, anki=AnkiCard(1, 1, -HUGE)),
    "card text": IncomingPart(0, SOUND, anki=AnkiCard(1, 1, 1, "\ud800")),
    "future answer": IncomingPart(0, SOUND, reviews=[answer(-40)]),
    "answer before all": IncomingPart(0, SOUND, reviews=[answer(1)._replace(id=-HUGE)]),
    "rating": IncomingPart(0, SOUND, reviews=[answer(1)._replace(rating=5)]),
    "state": IncomingPart(0, SOUND, reviews=[answer(1)._replace(state=8)]),  # type: ignore[arg-type]
    "interval": IncomingPart(0, SOUND, reviews=[answer(1)._replace(interval=HUGE)]),
    "duration": IncomingPart(0, SOUND, reviews=[answer(1)._replace(duration_ms=-1)]),
    "answer's stability": IncomingPart(0, SOUND, reviews=[answer(1)._replace(stability=nan)]),
    "factor": IncomingPart(0, SOUND, reviews=[answer(1)._replace(factor=HUGE, type=-HUGE)]),
    "no ordinal": IncomingPart(5, SOUND),
    "ordinal": IncomingPart(HUGE, SOUND),
}


@pytest.mark.parametrize("part", (BAD_SCHEDULES | BAD_PARTS).values(), ids=(BAD_SCHEDULES | BAD_PARTS).keys())
def test_one_bad_number_stops_nothing(store: Store, part: IncomingPart) -> None:
    def incoming() -> tuple[object, ...]:
        return make_note("a", part, sides=1), make_note("b", IncomingPart(0, SOUND, reviews=[answer(5)]), sides=1)

    report = take(store, make_incoming(*incoming()))  # type: ignore[arg-type]
    assert report.notes_added == 2
    assert len(report.findings) == 1
    assert report.findings[0].endswith(": 1")
    before = dump(store)
    assert take(store, make_incoming(*incoming())).nothing  # type: ignore[arg-type]
    assert dump(store) == before
    sitting = Session(store, Options(), calendar=CALENDAR, clock=FrozenClock(NOON + 10 * DAY))
    while sitting.next():
        sitting.bury()


def test_numbers_are_brought_to_the_nearest_that_can_be(store: Store) -> None:
    notes = {name: make_note(name, part, sides=1) for name, part in BAD_SCHEDULES.items()}
    take(store, make_incoming(*notes.values()))

    def schedule(name: str) -> Schedule:
        return store.progress_of(f"anki-{name}")[0].schedule

    assert schedule("due in the year 9999999") == replace(SOUND, due=TODAY + 36_500)
    assert schedule("interval") == replace(SOUND, interval=36_500)
    assert schedule("stability") == replace(SOUND, memory=None)
    assert schedule("reps") == replace(SOUND, reps=0)
    assert schedule("no last review") == replace(SOUND, last_review=CALENDAR.start(SOUND.due - SOUND.interval))
    assert schedule("state").state is State.NEW


def test_text_that_is_no_unicode(store: Store) -> None:
    bad = make_note("a", IncomingPart(0), sides=1, text="x\ud800y")
    assert bad.anki is not None
    bad = replace(bad, card=replace(bad.card, tags=("\udfff",)), anki=replace(bad.anki, tags=("\udfff",)))
    incoming = replace(make_incoming(bad), anki_notetypes={1: "\ud800"}, anki_decks={1: (None, "\ud800")})
    report = take(store, incoming)
    assert list(report.findings) == ["notes with characters that are not Unicode, replaced: 1"]
    assert store.card("anki-a").text(Lang.EN).face(0).front == "front 0 of x\ufffdy"
    assert store.connection.execute("SELECT tags FROM anki_note").fetchone()[0] == "\ufffd"


def test_ids_that_no_database_holds(store: Store) -> None:
    note = replace(make_note("a", sides=1), anki=AnkiNote(HUGE, "a", 1, 1, (), ()))
    incoming = replace(make_incoming(note), anki_notetypes={HUGE: "{}"}, anki_presets={-HUGE: "{}"})
    assert "kept without what Anki would want back: 1" in take(store, incoming).findings[0]
    assert len(store.cards()) == 1


def test_a_note_that_comes_twice(store: Store) -> None:
    incoming = make_incoming(make_note("a", text="first"), make_note("a", text="second", modified=900))
    report = take(store, incoming)
    assert list(report.findings) == ["notes that came twice, left out the second time: 1"]
    assert store.card("anki-a").text(Lang.EN).face(0).front == "front 0 of first"


def test_a_place_beyond_all_places(store: Store) -> None:
    notes = [replace(make_note(name, sides=1), position=place) for name, place in (("a", HUGE), ("b", -HUGE))]
    assert take(store, make_incoming(*notes)).notes_added == 2
    assert [card.id for card in store.cards()] == ["anki-b", "anki-a"]


def test_faces_that_are_no_parts(store: Store) -> None:
    card = note_card("a", ("f", "b"), ("f", "b"))
    text = card.text(Lang.EN)
    twice = replace(text, faces=(text.faces[0], text.faces[0]))
    far = replace(text, faces=(replace(text.faces[0], ordinal=HUGE),))
    unlike = {Lang.EN: text, Lang.ZH: replace(text, faces=text.faces[:1])}
    bad = [replace(card, texts={Lang.EN: twice}), replace(card, texts={Lang.EN: far}), replace(card, texts=unlike)]
    notes = [replace(make_note("a"), card=one) for one in bad]
    assert list(take(store, make_incoming(*notes)).findings) == ["notes without an id or a question, left out: 3"]


def test_many_answers_that_claim_one_moment_take_bounded_time(store: Store) -> None:
    notes = [make_note(f"n{n}", IncomingPart(0, SOUND, reviews=[answer(5)]), sides=1) for n in range(60)]
    report = take(store, make_incoming(*notes))
    assert report.reviews_added == 33
    assert list(report.findings) == ["answers given in the same moment as many others, left out: 27"]
