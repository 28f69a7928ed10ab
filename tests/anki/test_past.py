"""Anki's columns and log as schedules: each meaning of `due`, memories as the real Anki computes them, and back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date
from typing import Any

import pytest

from llmquiz.anki.archive.records import CardRow, ReviewRow
from llmquiz.anki.exporting import progress
from llmquiz.anki.importing.past import Past, at_home, data_of, reviews_of
from llmquiz.anki.importing.sm2 import Recaller, weights
from llmquiz.core.day import Calendar
from llmquiz.core.errors import ScheduleError
from llmquiz.core.options import DEFAULT_PARAMETERS, Options
from llmquiz.core.schedule import Memory, Schedule, State
from tests.support import collection

CALENDAR = Calendar(zone=UTC)
DAY0 = date(2024, 2, 1)
CREATED_AT = int(CALENDAR.start(DAY0.toordinal()))
NOW = CREATED_AT + 400 * 86_400
DATA = '{"pos":7,"s":12.3456,"d":4.5,"dr":0.9,"decay":0.154,"lrt":1740000000}'


def row(**changes: Any) -> CardRow:
    plain = CardRow(1, 1, 1, 0, NOW, 2, 2, 450, 30, 2500, 9, 1, 0, 0, 0, 0, DATA)
    return plain._replace(**changes)


def past(minutes_west: int | None = 0) -> Past:
    return Past(CREATED_AT, minutes_west, lambda deck: Recaller((), CALENDAR), CALENDAR, Options())


def schedule(**changes: Any) -> Schedule:
    return past().part(row(**changes), (), ordinal=0, leech=False).schedule


def test_a_review_is_due_on_a_day_since_the_collections_first() -> None:
    found = schedule()
    assert found.due == DAY0.toordinal() + 450
    assert (found.state, found.interval, found.reps, found.lapses) == (State.REVIEW, 30, 9, 1)
    assert (found.memory, found.last_review) == (Memory(12.3456, 4.5), 1740000000.0)


def test_a_new_card_has_a_place_and_nothing_to_remember() -> None:
    assert schedule(type=0, queue=0, due=42, interval=0, reps=0, lapses=0) == Schedule(State.NEW, 42)
    suspended = past().part(row(type=0, queue=-1, due=42), (), ordinal=3, leech=True)
    assert (suspended.suspended, suspended.ordinal, suspended.leech) == (True, 3, True)


@pytest.mark.parametrize("queue", [1, -1, -2, -3])
def test_a_step_in_seconds_is_an_instant(queue: int) -> None:
    found = schedule(type=1, queue=queue, due=NOW + 600, left=1002)
    assert (found.state, found.due, found.steps_left) == (State.LEARNING, NOW + 600, 2)


@pytest.mark.parametrize("queue", [3, -1, -2, -3])
def test_a_step_in_days_starts_with_its_day(queue: int) -> None:
    found = schedule(type=3, queue=queue, due=401, left=1)
    assert (found.state, found.due) == (State.RELEARNING, CREATED_AT + 401 * 86_400)


@pytest.mark.parametrize("queue", [-2, -3])
def test_a_burial_lasts_for_the_day_on_which_it_was_made(queue: int) -> None:
    part = past().part(row(queue=queue), (), ordinal=0, leech=False)
    assert (part.buried_on, part.suspended) == (CALENDAR.day(NOW), False)


def test_a_card_in_a_filtered_deck_goes_home() -> None:
    lent = row(deck=99, due=-100_000, original_due=450, original_deck=5)
    assert at_home(lent) == (5, 2, 2, 450)
    assert at_home(lent._replace(type=0, queue=2)) == (5, 0, 0, 450)
    assert at_home(lent._replace(type=3, queue=1, original_due=NOW)) == (5, 3, 1, NOW)
    assert at_home(lent._replace(type=1, queue=4)) == (5, 1, 3, 450)
    assert at_home(lent._replace(queue=-1)) == (5, 2, -1, 450)


def test_relearning_of_the_first_scheduler_is_relearning() -> None:
    assert at_home(row(queue=1, due=NOW))[1:3] == (State.RELEARNING, 1)


def test_the_first_day_is_that_of_the_clock_where_the_collection_was_made() -> None:
    late = int(CALENDAR.start(DAY0.toordinal())) + 16 * 3600  # 20:00 UTC is 4:00 of the next day in Shanghai
    there = Past(late, -480, lambda deck: Recaller((), CALENDAR), CALENDAR, Options())
    here = Past(late, None, lambda deck: Recaller((), CALENDAR), CALENDAR, Options())
    dues = [one.part(row(), (), ordinal=0, leech=False).schedule.due for one in (there, here)]
    assert dues == [DAY0.toordinal() + 451, DAY0.toordinal() + 450]


def test_the_last_answer_is_in_the_log_where_the_card_does_not_say() -> None:
    log = [ReviewRow(NOW * 1000, 1, 3, 30, 9, 2500, 900, 1), ReviewRow(NOW * 1000 + 9, 1, 0, 5, 5, 2500, 0, 4)]
    assert past().part(row(data=""), log, ordinal=0, leech=False).schedule.last_review == NOW
    guessed = schedule(data="").last_review
    assert guessed is not None
    assert CALENDAR.day(guessed) == min(DAY0.toordinal() + 420, CALENDAR.day(NOW))


def test_data_that_cannot_be_used_is_not() -> None:
    lies = ('{"s":NaN,"d":5,"lrt":1e400}', '{"s":-1,"d":99,"lrt":"x","pos":[]}', '{"a":' * 5000)
    for text in ("", "{", "[]", "null", *lies):
        assert data_of(text) == (None, None, None)


@pytest.mark.parametrize("due", [-(2**40), 2**40, 2**62])
@pytest.mark.parametrize("kind", [(0, 0), (1, 1), (1, 3), (2, 2), (3, -1)])
def test_numbers_beyond_all_bounds_stay_within(due: int, kind: tuple[int, int]) -> None:
    wild = row(type=kind[0], queue=kind[1], due=due, interval=due, reps=due, lapses=-due, left=due, data="")
    part = past().part(wild, (), ordinal=0, leech=False)
    assert CALENDAR.day(part.schedule.last_review or 0)
    assert 0 <= part.schedule.due <= 32_503_680_000


def test_answers_have_the_state_that_they_found() -> None:
    kinds = [(0, 1, 0), (0, 3, 0), (1, 3, 500), (1, 1, 500), (2, 3, 500), (3, 3, 0), (4, 0, 0), (0, 3, 0), (5, 0, 300)]
    log = [ReviewRow(number, 1, ease, 1, 1, factor, 5, kind) for number, (kind, ease, factor) in enumerate(kinds)]
    names = ("NEW", "LEARNING", "REVIEW", "REVIEW", "RELEARNING", "REVIEW", "REVIEW", "NEW", "REVIEW")
    assert [review.state.name for review in reviews_of(log)] == list(names)
    assert [review.rating for review in reviews_of(log)] == [1, 3, 3, 1, 3, 3, 0, 3, 0]
    assert [(review.type, review.factor) for review in reviews_of(log)] == [(kind, f) for kind, _, f in kinds]


def test_weights_of_older_versions_become_those_of_the_newest() -> None:
    assert weights(()) == DEFAULT_PARAMETERS
    assert weights([1.0] * 19) == (*[1.0] * 19, 0.0, 0.5)
    assert len(weights([1.0] * 17)) == 21
    with pytest.raises(ScheduleError, match="17, 19 or 21"):
        weights([1.0] * 13)


@pytest.fixture(scope="module")
def col(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    made = collection.build(tmp_path_factory.mktemp("past"), 44, 700)
    yield made
    made.close()


def card_rows(col: Any) -> list[CardRow]:
    names = "id,nid,did,ord,mod,type,queue,due,ivl,factor,reps,lapses,left,odue,odid,flags,data"
    return [CardRow(*it) for it in col.db.all(f"SELECT {names} FROM cards")]


def log_of(col: Any, card: int) -> list[ReviewRow]:
    rows = col.db.all("SELECT id,cid,ease,ivl,lastIvl,factor,time,type FROM revlog WHERE cid=? ORDER BY id", card)
    return [ReviewRow(*it) for it in rows]


def test_every_card_goes_back_as_it_came(col: Any) -> None:
    crt, first = col.crt, date.fromtimestamp(col.crt).toordinal()
    calendar, options, kinds = Calendar(), Options(), set()
    reader = Past(crt, None, lambda deck: Recaller((), calendar), calendar, options)
    for card in card_rows(col):
        part, home = reader.part(card, log_of(col, card.id), ordinal=0, leech=False), at_home(card)
        plain = progress.card_state(
            part.schedule, 1, suspended=part.suspended, flag=part.flag, options=options, calendar=calendar
        )
        assert part.anki is not None
        again = progress.restored(plain, part.schedule, factor=part.anki.factor, kept=part.anki.kept, buried=True)
        kinds.add((home.type, home.queue))
        queue, due = home.queue, home.due
        if home.type in (1, 3) and queue < 0 and due < 1e9:  # an import would lose the day: awake, or in seconds
            queue, due = (-1, part.schedule.due) if queue == -1 else (3, due)
        days = first - progress.CREATED_ON if progress.counts_days(home.type, queue) else 0
        rest = (card.interval, card.factor, card.reps, card.lapses, card.left, card.flags, card.data)
        assert again == (home.type, queue, due + days, *rest)
    assert len(kinds) >= 8


@pytest.mark.parametrize("version", ["fsrsParams6", "fsrsParams5", "fsrsWeights"])
def test_memories_are_those_that_anki_computes(col: Any, version: str) -> None:
    """From whole logs, and from logs that lost their start, with weights of each version of FSRS."""
    old = (0.4, 0.6, 2.4, 5.8, 4.93, 0.94, 0.86, 0.01, 1.49, 0.14, 0.94, 2.18, 0.05, 0.34, 1.26, 0.29, 2.61)
    preset = col.decks.config_dict_for_deck_id(col.decks.id("Serving"))
    given = {"fsrsParams6": collection.WEIGHTS, "fsrsParams5": (*collection.WEIGHTS[:17], 0.5, 0.1), "fsrsWeights": old}
    for name in given:
        preset[name] = list(given[name]) if name == version else []
    col.decks.update_config(preset)
    if version == "fsrsParams5":
        col.db.execute("DELETE FROM revlog WHERE type = 0 AND cid % 3 = 0")
    compared = 0
    for card in card_rows(col):
        used = col.decks.config_dict_for_deck_id(card.original_deck or card.deck)
        theirs = col.compute_memory_state(card.id)
        if card.type == 0 or used["id"] != preset["id"] or theirs.stability is None:
            continue
        ours = Recaller(given[version], Calendar()).memory(log_of(col, card.id), card.factor, max(card.interval, 0))
        assert ours.stability == pytest.approx(theirs.stability, rel=1e-3, abs=1e-3)
        assert ours.difficulty == pytest.approx(theirs.difficulty, abs=2e-3)
        compared += 1
    assert compared > 10
