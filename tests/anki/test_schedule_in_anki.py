"""A studied store in the real Anki: every due date, interval, memory, review and next interval is the same there."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmquiz.anki.exporting.export import export
from llmquiz.core.card import Lang
from llmquiz.core.options import Options
from llmquiz.core.schedule import State
from llmquiz.core.scheduler import Scheduler
from llmquiz.store import Store

from .conftest import DAY, Desk, deck, many, study

pytestmark = pytest.mark.slow
OPTIONS = Options(
    desired_retention=0.87,
    learning_steps=(60, 900),
    relearning_steps=(1200,),
    new_per_day=24,
    reviews_per_day=9999,
    leech_threshold=4,
    maximum_interval=400,
    fuzz=False,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """1,080 parts of cards, studied for 60 days, in a collection that is 300 days older than ours."""
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch, Store.open(folder / "llmquiz.db") as store:
        patch.setenv("ANKI_TEST_MODE", "1")
        store.sync([deck(*many(900))], now=time.time() - 90 * DAY)
        studied = study(store, OPTIONS, days=60, seed=5)
        report = export(store, [], folder / "out.apkg", langs=(Lang.EN, Lang.ZH), with_schedule=True, options=OPTIONS)
        desk = Desk(folder / "anki", created_at=int(time.time()) // DAY * DAY - 300 * DAY + 4 * 3600)
        log = desk.take(report.path)
        ours = {(card, ordinal): store.progress(part) for part, card, ordinal in studied.parts}
        theirs = {key: desk.card(*key) for key in ours}
        yield SimpleNamespace(store=store, studied=studied, report=report, desk=desk, log=log, ours=ours, theirs=theirs)
        desk.col.close()


def test_everything_arrives_as_new(world: SimpleNamespace) -> None:
    assert world.log == {"new": 900, "updated": 0, "duplicate": 0, "conflicting": 0}
    assert world.report.cards == len(world.ours) == 1080
    assert world.desk.col.card_count() == 1080


def test_the_study_reached_every_state(world: SimpleNamespace) -> None:
    states = Counter(progress.schedule.state for progress in world.ours.values())
    assert set(states) == set(State)
    assert any(progress.suspended for progress in world.ours.values())
    assert any(progress.leech for progress in world.ours.values())
    assert any(progress.flag for progress in world.ours.values())
    assert world.studied.undone > 100


def test_every_due_date_is_the_same(world: SimpleNamespace) -> None:
    today = world.studied.calendar.day(world.studied.now)
    learning_queues = set()
    for key, progress in world.ours.items():
        schedule, card = progress.schedule, world.theirs[key]
        if schedule.state is State.REVIEW:
            assert card.due - world.desk.col.sched.today == schedule.due - today
        elif schedule.state is not State.NEW:
            learning_queues.add(card.queue)
            in_days = card.queue == 3 or card.due < 1_000_000
            due = world.studied.calendar.day(schedule.due) - today if in_days else schedule.due
            assert (card.due - world.desk.col.sched.today if in_days else card.due) == due
    assert 1 in learning_queues


def test_every_card_state_is_the_same(world: SimpleNamespace) -> None:
    for key, progress in world.ours.items():
        schedule, card = progress.schedule, world.theirs[key]
        assert card.type == schedule.state
        assert (card.queue == -1) is progress.suspended
        assert (card.ivl, card.reps, card.lapses) == (schedule.interval, schedule.reps, schedule.lapses)
        assert card.left % 1000 == schedule.steps_left
        assert card.user_flag() == progress.flag
        assert card.queue >= -1  # nothing is buried
        assert card.note().has_tag("leech") is any(
            other.leech for (card_id, _), other in world.ours.items() if card_id == key[0]
        )


def test_every_memory_is_the_same(world: SimpleNamespace) -> None:
    for key, progress in world.ours.items():
        memory, card = progress.schedule.memory, world.theirs[key]
        if memory is None:
            assert card.memory_state is None
            continue
        assert card.memory_state.stability == pytest.approx(memory.stability, abs=1e-4, rel=1e-6)
        assert card.memory_state.difficulty == pytest.approx(memory.difficulty, abs=1e-3)
        assert card.desired_retention == pytest.approx(OPTIONS.desired_retention)
        assert card.decay == pytest.approx(OPTIONS.parameters[20], abs=1e-3)
        assert card.last_review_time == int(progress.schedule.last_review)


def test_every_review_is_the_same(world: SimpleNamespace) -> None:
    parts = {card.id: key for key, card in world.theirs.items()}
    numbers = {part: (card, ordinal) for part, card, ordinal in world.studied.parts}
    theirs = {row[0]: (parts[row[1]], row[3], row[4], row[5], row[7], row[8]) for row in world.desk.rows("revlog")}
    kinds = {0: 0, 1: 0, 2: 1, 3: 2}
    rows = world.store.connection.execute("SELECT * FROM live_review").fetchall()
    ours = {row[0]: (numbers[row[1]], row[3], row[5], row[6], row[10], kinds[row[4]]) for row in rows}
    assert theirs == ours
    assert world.report.reviews == len(ours) > 3000


def test_next_intervals_are_the_same(world: SimpleNamespace) -> None:
    """Anki computes in single precision: now and then an interval near a half day rounds to the other day."""
    now, scheduler, different = time.time(), Scheduler(OPTIONS), []
    if world.studied.calendar.day(now + 1800) != world.studied.calendar.day(now):
        pytest.skip("a learning step would reach the next day, which ours names in days and Anki in seconds")
    for key, progress in world.ours.items():
        outcomes = scheduler.next(progress.schedule, now, seed=progress.id).values()
        ours = [it.delay_seconds or (it.interval_days or 0) * DAY for it in outcomes]
        theirs = _intervals(world.desk.col._backend.get_scheduling_states(world.theirs[key].id))
        different += [abs(a - b) for a, b in zip(ours, theirs, strict=True) if a != b]
    assert all(difference == DAY for difference in different), different
    assert len(different) <= len(world.ours) * 4 / 1000


def _intervals(states: object) -> tuple[int, ...]:
    """Seconds until each answer's next showing."""
    seconds = []
    for name in ("again", "hard", "good", "easy"):
        normal = getattr(states, name).normal
        kind = normal.WhichOneof("kind")
        state = getattr(normal, kind)
        if kind == "review":
            seconds.append(state.scheduled_days * DAY)
        else:
            seconds.append((state.learning if kind == "relearning" else state).scheduled_secs)
    return tuple(seconds)


def test_the_options_arrive_as_a_preset(world: SimpleNamespace) -> None:
    col = world.desk.col
    deck_id = col.decks.id_for_name("llmquiz::KV cache")
    preset = col.decks.config_dict_for_deck_id(deck_id)
    assert preset["name"] == "llmquiz"
    assert preset["desiredRetention"] == pytest.approx(0.87)
    assert preset["fsrsParams6"] == pytest.approx(OPTIONS.parameters)
    assert (preset["new"]["delays"], preset["lapse"]["delays"]) == ([1.0, 15.0], [20.0])
    assert (preset["new"]["perDay"], preset["rev"]["perDay"], preset["rev"]["maxIvl"]) == (24, 9999, 400)
    assert (preset["lapse"]["leechFails"], preset["lapse"]["leechAction"]) == (4, 0)


def test_importing_again_changes_nothing(world: SimpleNamespace, tmp_path: Path) -> None:
    tables = ("notes", "cards", "revlog", "decks", "notetypes")
    before = {table: world.desk.rows(table) for table in tables}
    again = export(
        world.store, [], tmp_path / "again.apkg", langs=(Lang.EN, Lang.ZH), with_schedule=True, options=OPTIONS
    )
    assert again.path.read_bytes() == world.report.path.read_bytes()
    assert world.desk.take(again.path)["new"] == 0
    assert {table: world.desk.rows(table) for table in tables} == before
