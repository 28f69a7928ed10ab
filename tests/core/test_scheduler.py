"""What holds for every answer, whatever the card, the options and the hour."""

from __future__ import annotations

from datetime import UTC
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmquiz.core.day import Calendar
from llmquiz.core.options import DAY_SECONDS, Options
from llmquiz.core.rating import Rating
from llmquiz.core.schedule import Memory, Schedule, State
from llmquiz.core.scheduler import Outcome, Scheduler
from tests.support.making import CALENDAR, NOON

TODAY = CALENDAR.day(NOON)
STEPS = st.lists(st.sampled_from((30, 60, 600, 3600, DAY_SECONDS, 3 * DAY_SECONDS)), max_size=3).map(tuple)
OPTIONS = st.builds(
    Options,
    desired_retention=st.floats(0.7, 0.99),
    learning_steps=STEPS,
    relearning_steps=STEPS,
    maximum_interval=st.sampled_from((1, 2, 30, 365, 36500)),
    leech_threshold=st.integers(0, 9),
    fuzz=st.booleans(),
)


def due_at(schedule: Schedule, calendar: Calendar) -> float:
    return calendar.start(schedule.due) if schedule.state is State.REVIEW else schedule.due


@st.composite
def lives(draw: st.DrawFn) -> tuple[Scheduler, list[tuple[Schedule, float, dict[Rating, Outcome]]]]:
    """A card answered at random moments: before each answer its schedule, the moment and the four outcomes."""
    scheduler = Scheduler(draw(OPTIONS), CALENDAR)
    schedule, now, past = Schedule(), float(NOON), []
    for rating, wait in draw(
        st.lists(st.tuples(st.sampled_from(list(Rating)), st.floats(0, 60 * DAY_SECONDS)), max_size=12)
    ):
        outcomes = scheduler.next(schedule, now, seed=7)
        past.append((schedule, now, outcomes))
        schedule = outcomes[rating].schedule
        now += wait
    past.append((schedule, now, scheduler.next(schedule, now, seed=7)))
    return scheduler, past


@settings(max_examples=150, deadline=None)
@given(lives())
def test_a_due_date_never_precedes_its_review(
    life: tuple[Scheduler, list[tuple[Schedule, float, dict[Rating, Outcome]]]],
) -> None:
    for _, now, outcomes in life[1]:
        for outcome in outcomes.values():
            after = outcome.schedule
            assert due_at(after, CALENDAR) >= int(now)
            if after.state is State.REVIEW:
                assert after.due > CALENDAR.day(now)


@settings(max_examples=150, deadline=None)
@given(lives(), st.floats(0, 2 * DAY_SECONDS))
def test_an_answer_is_what_its_own_moment_gives(
    life: tuple[Scheduler, list[tuple[Schedule, float, dict[Rating, Outcome]]]], thinking: float
) -> None:
    scheduler, past = life
    schedule, shown, outcomes = past[-1]
    now = shown + thinking
    afresh = scheduler.next(schedule, now, seed=7)
    for rating, outcome in outcomes.items():
        assert scheduler.answer(schedule, outcome, rating, now, seed=7) == afresh[rating]


@settings(max_examples=150, deadline=None)
@given(lives())
def test_intervals_are_ordered_and_bounded(
    life: tuple[Scheduler, list[tuple[Schedule, float, dict[Rating, Outcome]]]],
) -> None:
    scheduler, past = life
    longest = scheduler.options.maximum_interval
    for before, _, outcomes in past:
        for outcome in outcomes.values():
            if outcome.schedule.state is State.REVIEW:
                assert 1 <= (outcome.interval_days or 0) <= longest
        if before.state is not State.REVIEW:
            continue
        passed = [outcomes[rating].interval_days or 0 for rating in (Rating.HARD, Rating.GOOD, Rating.EASY)]
        for shorter, longer in pairwise(passed):
            assert shorter < longer or longer == longest
        if not scheduler.options.relearning_steps:
            assert (outcomes[Rating.AGAIN].interval_days or 0) <= passed[0]


@settings(max_examples=150, deadline=None)
@given(lives())
def test_every_answer_counts_and_leaves_a_memory(
    life: tuple[Scheduler, list[tuple[Schedule, float, dict[Rating, Outcome]]]],
) -> None:
    for before, now, outcomes in life[1]:
        for rating, outcome in outcomes.items():
            after = outcome.schedule
            lapsed = rating is Rating.AGAIN and before.state is State.REVIEW
            assert after.reps == before.reps + 1
            assert after.lapses == before.lapses + lapsed
            assert after.last_review == now
            assert after.memory is not None
            assert 0.001 <= after.memory.stability <= 36500
            assert 1 <= after.memory.difficulty <= 10
            assert (outcome.delay_seconds is None) != (outcome.interval_days is None)
            assert (after.state is State.REVIEW) or after.steps_left <= 3


def reviewed(interval: int, *, late: int = 0, stability: float | None = None, **fields: int) -> Schedule:
    last = NOON - (interval + late) * DAY_SECONDS
    memory = Memory(stability or float(interval), 5.0)
    return Schedule(
        State.REVIEW, TODAY - late, interval, 0, memory, last, fields.get("reps", 5), fields.get("lapses", 0)
    )


def outcomes(schedule: Schedule, now: float = NOON, **fields: object) -> dict[Rating, Outcome]:
    return Scheduler(Options(**{"fuzz": False} | fields), CALENDAR).next(schedule, now, seed=1)  # type: ignore[arg-type]


def test_labels_are_what_happens() -> None:
    assert [outcome.label for outcome in outcomes(Schedule()).values()] == ["1m", "6m", "10m", "8d"]


def test_late_is_rewarded_and_early_is_not() -> None:
    good = [outcomes(reviewed(10, late=late))[Rating.GOOD].interval_days or 0 for late in (-6, 0, 10)]
    assert good == sorted(good)
    assert good[0] < good[1] < good[2]


def test_a_lapse_keeps_the_interval_for_the_day_it_leaves_relearning() -> None:
    again = outcomes(reviewed(50))[Rating.AGAIN]
    assert (again.schedule.state, again.delay_seconds, again.schedule.steps_left) == (State.RELEARNING, 600, 1)
    assert again.schedule.interval >= 1
    back = outcomes(again.schedule, NOON + 600)[Rating.GOOD]
    assert back.schedule.state is State.REVIEW
    assert back.schedule.lapses == 1


def test_without_relearning_steps_a_lapse_goes_straight_to_review() -> None:
    again = outcomes(reviewed(50), relearning_steps=())[Rating.AGAIN]
    assert again.schedule.state is State.REVIEW
    assert again.interval_days == again.schedule.interval


def test_without_steps_fsrs_decides_within_the_day_too() -> None:
    again = outcomes(Schedule(), learning_steps=(), now=float(NOON - 6 * 3600))[Rating.AGAIN]
    assert again.schedule.state is State.LEARNING
    assert again.delay_seconds == int(0.212 * DAY_SECONDS)


def test_a_step_over_the_rollover_waits_for_the_day_to_start() -> None:
    late = CALENDAR.start(TODAY + 1) - 300
    good = outcomes(Schedule(), now=late)[Rating.GOOD]
    assert (good.interval_days, good.delay_seconds, good.label) == (1, None, "1d")
    assert good.schedule.due == CALENDAR.start(TODAY + 1)


def test_an_answer_after_midnight_belongs_to_the_evening() -> None:
    calendar = Calendar(zone=UTC)
    midnight = calendar.start(TODAY) + 20.5 * 3600
    scheduler = Scheduler(Options(fuzz=False), calendar)
    easy = scheduler.next(Schedule(), midnight, seed=1)[Rating.EASY].schedule
    assert easy.due == TODAY + 8
    assert scheduler.retrievability(easy, midnight + 3 * 3600) == 1.0
    assert scheduler.retrievability(easy, midnight + 4 * 3600) < 1.0  # type: ignore[operator]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/St_Johns", "Asia/Shanghai", "Australia/Lord_Howe"])
@settings(max_examples=40, deadline=None)
@given(now=st.integers(1_700_000_000, 1_800_000_000), rating=st.sampled_from(list(Rating)))
def test_due_dates_hold_over_changes_of_the_clock(zone: str, now: int, rating: Rating) -> None:
    calendar = Calendar(zone=ZoneInfo(zone))
    outcome = Scheduler(Options(learning_steps=(600, 3 * 3600)), calendar).next(Schedule(), now, seed=now)[rating]
    assert due_at(outcome.schedule, calendar) > now


@pytest.mark.parametrize(
    ("threshold", "leeches"), [(8, [8, 12, 16]), (5, [5, 8, 11, 14, 17]), (1, list(range(1, 18))), (0, [])]
)
def test_leeches_at_the_threshold_and_every_half_of_it(threshold: int, leeches: list[int]) -> None:
    scheduler = Scheduler(Options(leech_threshold=threshold))
    assert [lapses for lapses in range(18) if scheduler.is_leech(lapses)] == leeches


def test_only_a_lapse_makes_a_leech() -> None:
    found = outcomes(reviewed(20, lapses=7))
    assert [outcome.leech for outcome in found.values()] == [True, False, False, False]


def test_fuzz_depends_on_the_card_and_its_answers_alone() -> None:
    scheduler = Scheduler(Options(), CALENDAR)
    days = [scheduler.next(reviewed(60), NOON, seed=seed)[Rating.GOOD].interval_days for seed in range(60)]
    assert days == [scheduler.next(reviewed(60), NOON + 9, seed=seed)[Rating.GOOD].interval_days for seed in range(60)]
    assert len(set(days)) > 8
    assert len({scheduler.next(reviewed(60, reps=n), NOON, seed=1)[Rating.GOOD].interval_days for n in range(60)}) > 8


def test_a_clock_set_back_does_not_break_the_schedule() -> None:
    found = outcomes(reviewed(10), NOON - 40 * DAY_SECONDS)
    assert all(outcome.schedule.memory for outcome in found.values())


def test_the_promise_of_a_review_is_kept_while_the_day_lasts() -> None:
    scheduler = Scheduler(Options(), CALENDAR)
    shown = scheduler.next(reviewed(10), NOON, seed=3)
    later = scheduler.answer(reviewed(10), shown[Rating.GOOD], Rating.GOOD, NOON + 900, seed=3)
    assert (later.schedule.due, later.schedule.last_review) == (shown[Rating.GOOD].schedule.due, NOON + 900)
    step = scheduler.answer(reviewed(10), shown[Rating.AGAIN], Rating.AGAIN, NOON + 900, seed=3)
    assert step.schedule.due >= NOON + 900 + 600
    tomorrow = scheduler.answer(reviewed(10), shown[Rating.GOOD], Rating.GOOD, NOON + DAY_SECONDS, seed=3)
    assert tomorrow.schedule == scheduler.next(reviewed(10), NOON + DAY_SECONDS, seed=3)[Rating.GOOD].schedule
