"""How a schedule is written where Anki keeps it in another form."""

from __future__ import annotations

from datetime import UTC

from llmquiz.anki.progress import CREATED_ON, card_state
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
