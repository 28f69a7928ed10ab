"""Undoing is the inverse of doing, bit for bit, whatever was done, over restarts and days."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmquiz.core.options import Options
from llmquiz.core.rating import Rating
from llmquiz.store import Store
from llmquiz.study.session import Session
from tests.support.making import CALENDAR, FrozenClock, make_card, make_cloze, make_deck

ACTIONS: dict[str, Callable[[Session], Any]] = {
    **{f"rate {rating.name}": lambda s, rating=rating: s.rate(rating, duration_ms=5) for rating in Rating},
    "suspend": lambda s: s.suspend(),
    "bury": lambda s: s.bury(),
    "flag": lambda s: s.flag(2),
}
STEPS = st.lists(st.tuples(st.sampled_from(sorted(ACTIONS)), st.integers(0, 200_000), st.booleans()), max_size=25)


def rows(store: Store) -> list[tuple[Any, ...]]:
    return store.connection.execute("SELECT * FROM schedule ORDER BY id").fetchall()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_undo_after_anything_is_nothing(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, bool]]
) -> None:
    options, clock = Options(leech_threshold=1, new_per_day=50), FrozenClock()
    path = tmp_path_factory.mktemp("undo") / "llmquiz.db"
    with Store.open(path) as store:
        deck = make_deck(make_cloze("cloze", 3), *(make_card(f"c{number}") for number in range(3)))
        store.sync([deck], now=clock.now)
        sitting = Session(store, options, calendar=CALENDAR, clock=clock)
        states = [rows(store)]
        for name, wait, restart in steps:
            if restart:
                sitting = Session(store, options, calendar=CALENDAR, clock=clock)
            if sitting.next() is None:
                clock.now += wait
                continue
            ACTIONS[name](sitting)
            states.append(rows(store))
            clock.now += wait
        for before in reversed(states[:-1]):
            assert sitting.undo() is not None
            assert rows(store) == before
        assert sitting.undo() is None
        assert store.connection.execute("SELECT count(*) FROM live_review").fetchone()[0] == 0
