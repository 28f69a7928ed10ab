"""How a schedule is written where Anki keeps it in another form."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC

from hypothesis import given, settings
from hypothesis import strategies as st

from llmquiz.anki.exporting import progress
from llmquiz.anki.exporting.progress import CREATED_ON, CardState, card_state
from llmquiz.core.day import Calendar
from llmquiz.core.options import Options
from llmquiz.core.schedule import Memory, Schedule, State

CALENDAR = Calendar(zone=UTC)
TODAY = CREATED_ON + 2000
START = int(CALENDAR.start(TODAY + 1))
BEFORE_ROLLOVER = Schedule(
    State.RELEARNING,
    START,
    interval=3,
    steps_left=1,
    memory=Memory(2.0, 7.0),
    last_review=START - 600,
    reps=9,
    lapses=1,
)


def test_a_step_into_the_next_day_is_a_day() -> None:
    state = card_state(BEFORE_ROLLOVER, 1, suspended=False, flag=0, options=Options(), calendar=CALENDAR)
    assert (state.queue, state.due) == (3, 2001)


def test_a_suspended_one_keeps_its_instant_since_imports_do_not_move_its_day() -> None:
    state = card_state(BEFORE_ROLLOVER, 1, suspended=True, flag=0, options=Options(), calendar=CALENDAR)
    assert (state.queue, state.due) == (-1, START)


def columns() -> st.SearchStrategy[CardState]:
    """What Anki's table may hold, also where no version of Anki writes it."""
    few = st.integers(0, 3000)
    return st.builds(
        CardState,
        st.integers(0, 3),
        st.integers(-3, 4),
        st.integers(-50, 4000) | st.integers(START - 10**6, START + 10**6),
        few,
        st.sampled_from([0, 1300, 2500]),
        few,
        few,
        few,
        st.integers(0, 300),
        st.sampled_from(["", "{}", '{"pos":4}', '{"s":1.5,"d":2.0,"cd":"{}"}', "[1]", "not JSON"]),
    )


def schedules(state: State) -> st.SearchStrategy[Schedule]:
    memory = st.none() | st.builds(Memory, st.floats(0.1, 9000), st.floats(1, 10))
    days, instants = st.integers(TODAY - 900, TODAY + 900), st.integers(START - 10**6, START + 10**6)
    due = days if state is State.REVIEW else instants
    last = st.none() | st.floats(START - 10**6, START)
    few = st.integers(0, 50)
    return st.builds(Schedule, st.just(state), due, few, few, memory, last, few, few)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_a_card_of_ankis_comes_back_as_it_went(data: st.DataObject) -> None:
    came = data.draw(columns())
    schedule = data.draw(schedules(State(came.type)))
    kept = progress.keep(came, schedule, calendar=CALENDAR, options=Options())
    for options in (Options(), Options(desired_retention=0.8)):
        plain = card_state(
            schedule, 77, suspended=came.queue == -1, flag=came.flags & 7, options=options, calendar=CALENDAR
        )
        state = progress.restored(plain, schedule, factor=came.factor, kept=kept, buried=True)
        assert state == came


def test_a_card_that_was_answered_here_keeps_what_no_answer_changes() -> None:
    came = CardState(2, 2, 2010, 10, 1800, 5, 1, 0, 0x45, '{"s":1.0,"d":2.0,"cd":"{}","pos":9}')
    before = Schedule(State.REVIEW, CREATED_ON + 2010, 10, 0, Memory(1.0, 2.0), START - 900.0, 5, 1)
    kept = progress.keep(came, before, calendar=CALENDAR, options=Options())
    after = replace(before, due=CREATED_ON + 2040, interval=30, memory=Memory(30.0, 2.0), reps=6)
    plain = card_state(after, 3, suspended=False, flag=2, options=Options(), calendar=CALENDAR)
    state = progress.restored(plain, after, factor=1800, kept=kept, buried=False)
    assert (state.due, state.ivl, state.reps, state.factor, state.flags) == (2040, 30, 6, 1800, 0x42)
    assert json.loads(state.data) == json.loads(plain.data) | {"cd": "{}", "pos": 9}
