"""Answers cards until it is killed; prints for each answer the part of the card, its answers so far and its due."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from llmquiz.core.options import Options
from llmquiz.core.rating import Rating
from llmquiz.store import Store
from llmquiz.study.session import Session
from tests.support.making import CALENDAR, FrozenClock


def main() -> None:
    clock = FrozenClock()
    with Store.open(Path(sys.argv[1])) as store:
        clock.now = float(store.meta("now") or clock.now)
        sitting = Session(store, Options(new_per_day=9999, reviews_per_day=9999), calendar=CALENDAR, clock=clock)
        for number in itertools.count():
            prompt = sitting.next()
            if prompt is None:
                clock.now += 86_400
                continue
            rated = sitting.rate(Rating.AGAIN if number % 4 == 0 else Rating.GOOD, duration_ms=1)
            after = rated.outcome.schedule
            print(prompt.schedule_id, after.reps, after.due, flush=True)
            clock.now += 61


if __name__ == "__main__":
    main()
