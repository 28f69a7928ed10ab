"""Schedules, reviews and options in Anki's own numbers.

Days are counted from the collection's creation, which is a fixed day at the rollover hour: Anki shifts every due day by
the difference to its own collection on import.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from llmquiz.core.day import Calendar
from llmquiz.core.options import Options
from llmquiz.core.schedule import Schedule, State

CREATED_ON = date(2020, 1, 1).toordinal()
FACTOR = 2500
PRESET_ID = 1_763_769_600_201
_SUSPENDED, _NEW, _LEARNING, _REVIEW, _DAY_LEARNING = -1, 0, 1, 2, 3
_REVLOG_TYPES = {State.NEW: 0, State.LEARNING: 0, State.REVIEW: 1, State.RELEARNING: 2}


class CardState(NamedTuple):
    """The scheduling columns of Anki's ``cards`` table, in its order."""

    type: int
    queue: int
    due: int
    ivl: int
    factor: int
    reps: int
    lapses: int
    left: int
    flags: int = 0
    data: str = "{}"


def new_card(position: int) -> CardState:
    """A card that was never answered, at `position` in the queue of new cards."""
    return CardState(State.NEW, _NEW, position, 0, 0, 0, 0, 0)


def card_state(
    schedule: Schedule, position: int, *, suspended: bool, flag: int, options: Options, calendar: Calendar
) -> CardState:
    """`schedule` as Anki has it; a buried card comes back, since burial ends with the day."""
    queue, due = _queue(schedule, position, calendar, suspended=suspended)
    return CardState(
        type=schedule.state,
        queue=queue,
        due=due,
        ivl=schedule.interval,
        factor=0 if schedule.state is State.NEW else FACTOR,
        reps=schedule.reps,
        lapses=schedule.lapses,
        left=schedule.steps_left,
        flags=flag,
        data=_data(schedule, position, options),
    )


def _queue(schedule: Schedule, position: int, calendar: Calendar, *, suspended: bool) -> tuple[int, int]:
    if schedule.state is State.NEW:
        return _SUSPENDED if suspended else _NEW, position
    if schedule.state is State.REVIEW:
        return _SUSPENDED if suspended else _REVIEW, schedule.due - CREATED_ON
    if suspended:  # in seconds: an import moves the days of a step with the collection's start only in its own queue
        return _SUSPENDED, schedule.due
    day = calendar.day(schedule.due)
    if schedule.last_review is not None and day > calendar.day(schedule.last_review):
        return _DAY_LEARNING, day - CREATED_ON
    return _LEARNING, schedule.due


def _data(schedule: Schedule, position: int, options: Options) -> str:
    data: dict[str, Any] = {"pos": position}
    if schedule.memory is not None:
        data |= {
            "s": round(schedule.memory.stability, 4),
            "d": round(schedule.memory.difficulty, 3),
            "dr": round(options.desired_retention, 2),
            "decay": round(options.parameters[20], 3),
        }
    if schedule.last_review is not None:
        data["lrt"] = int(schedule.last_review)
    return json.dumps(data, separators=(",", ":"))


def review_factor(difficulty: float | None) -> int:
    """A review's difficulty (1 to 10) as Anki logs it: 100 to 1100, 0 for none."""
    return 0 if difficulty is None else round(((difficulty - 1) / 9 + 0.1) * 1000)


def review_type(state: State) -> int:
    """Anki's kind of review for a card that was in `state` when it was answered."""
    return _REVLOG_TYPES[state]


def created_at(calendar: Calendar) -> int:
    """The creation instant of the exported collection, Unix seconds."""
    return int(calendar.start(CREATED_ON))


def minutes_west(calendar: Calendar) -> int:
    """How far west of UTC the clock was at that instant."""
    at = datetime.fromtimestamp(created_at(calendar), UTC).astimezone(calendar.zone)
    return -round((at.utcoffset() or timedelta()) / timedelta(minutes=1))


def preset(preset_id: int, name: str, options: Options) -> dict[str, Any]:
    """`options` as an entry of a schema 11 collection's ``dconf`` column."""
    return {
        "id": preset_id,
        "mod": 0,
        "name": name,
        "usn": 0,
        "maxTaken": 60,
        "autoplay": True,
        "timer": 0,
        "replayq": True,
        "dyn": False,
        "new": {
            "bury": options.bury_siblings,
            "delays": _minutes(options.learning_steps),
            "initialFactor": FACTOR,
            "ints": [1, 4, 0],
            "order": 1 if options.new_order == "deck" else 0,
            "perDay": options.new_per_day,
        },
        "rev": {
            "bury": options.bury_siblings,
            "ease4": 1.3,
            "ivlFct": 1.0,
            "maxIvl": options.maximum_interval,
            "perDay": options.reviews_per_day,
            "hardFactor": 1.2,
        },
        "lapse": {
            "delays": _minutes(options.relearning_steps),
            "leechAction": 0 if options.leech_suspends else 1,
            "leechFails": options.leech_threshold,
            "minInt": 1,
            "mult": 0.0,
        },
        "buryInterdayLearning": options.bury_siblings,
        "desiredRetention": options.desired_retention,
        "fsrsParams6": list(options.parameters),
    }


def _minutes(steps: tuple[int, ...]) -> list[float]:
    return [seconds / 60 for seconds in steps]
