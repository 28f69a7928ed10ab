"""How a schedule is written where Anki keeps it in another form."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC

import pytest
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


def kept_of(came: CardState, schedule: Schedule) -> str:
    """What an import keeps of a card that was `came` and became `schedule`."""
    columns = {name: value + 0 if name != "data" else value for name, value in came._asdict().items()}
    del columns["factor"]
    memory = schedule.memory
    known = (memory.stability, memory.difficulty) if memory else (None, None)
    due = 0 if schedule.state is State.NEW else schedule.due
    return json.dumps(columns | {"was": [due, *known, schedule.last_review, schedule.reps]})


def kept_before(came: CardState, schedule: Schedule) -> str:
    """The same as the first version kept it: a checksum, and the columns that it would have written otherwise."""
    plain = card_state(
        schedule, -1, suspended=came.queue == -1, flag=came.flags & 7, options=Options(), calendar=CALENDAR
    )
    told = {
        name: value + 0 if name != "data" else value
        for name, value, ours in zip(CardState._fields, came, plain, strict=True)
        if name != "factor" and (value != ours or (name == "queue" and value == -1))
    }
    it, memory = schedule, schedule.memory or Memory(0.0, 0.0)
    due = 0 if it.state is State.NEW else it.due
    last = -1.0 if it.last_review is None else it.last_review
    counts = it.state.value, due, it.interval, it.steps_left, it.reps, it.lapses
    packed = struct.pack("<6q3d", *counts, last, memory.stability, memory.difficulty)
    return json.dumps(told | {"was": zlib.crc32(packed)})


FORMS = (kept_of, kept_before)


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
@given(st.data(), st.sampled_from(FORMS))
def test_a_card_of_ankis_comes_back_as_it_went(data: st.DataObject, form: Callable[..., str]) -> None:
    came = data.draw(columns())
    schedule = data.draw(schedules(State(came.type)))
    kept = form(came, schedule)
    for options in (Options(), Options(desired_retention=0.8)):
        plain = card_state(
            schedule, 77, suspended=came.queue == -1, flag=came.flags & 7, options=options, calendar=CALENDAR
        )
        state = progress.restored(plain, schedule, factor=came.factor, kept=kept, buried=True)
        assert state == came


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("change", ["due", "memory", "last_review", "reps"])
def test_a_card_that_was_answered_here_keeps_what_no_answer_changes(form: Callable[..., str], change: str) -> None:
    came = CardState(2, 2, 2010, 10, 1800, 5, 1, 0, 0x45, '{"s":1.0,"d":2.0,"cd":"{}","pos":9}')
    before = Schedule(State.REVIEW, CREATED_ON + 2010, 10, 0, Memory(1.0, 2.0), START - 900.0, 5, 1)
    answered = Schedule(State.REVIEW, CREATED_ON + 2040, 10, 0, Memory(30.0, 2.0), START - 60.0, 6, 1)
    after = replace(before, **{change: getattr(answered, change)})
    plain = card_state(after, 3, suspended=False, flag=2, options=Options(), calendar=CALENDAR)
    state = progress.restored(plain, after, factor=1800, kept=form(came, before), buried=False)
    assert state == plain._replace(factor=1800, flags=0x42, data=state.data)
    assert json.loads(state.data) == json.loads(plain.data) | {"cd": "{}", "pos": 9}


@pytest.mark.parametrize("kept", ["{}", '{"was":true,"due":"x","flags":[8]}', '{"was":[1,2],"ivl":1e9,"sql":1}'])
def test_what_no_import_has_written_is_left(kept: str) -> None:
    plain = card_state(BEFORE_ROLLOVER, 3, suspended=False, flag=2, options=Options(), calendar=CALENDAR)
    state = progress.restored(plain, BEFORE_ROLLOVER, factor=1800, kept=kept, buried=False)
    assert state == plain._replace(factor=1800, data=state.data)
    assert json.loads(state.data) == json.loads(plain.data)
