"""Schedules, reviews and options in Anki's own numbers.

Days are counted from the collection's creation, which is a fixed day at the rollover hour: Anki shifts every due day by
the difference to its own collection on import.

A card that came from Anki goes back as it came, to the letter, for as long as nothing here has changed its schedule.
`llmquiz.store.incoming.AnkiCard.kept` holds its columns, under the names of `CardState` but for `factor`, which has a
field of its own; `due` counts from `CREATED_ON` where `counts_days` says so. Under ``was`` stands the schedule that was
made of them: `due` (0 for a new card), stability, difficulty, last review and answers. In databases of the first
version ``was`` is a checksum, and columns are missing that `card_state` writes just so.
"""

from __future__ import annotations

import json
import struct
import zlib
from datetime import UTC, date, datetime, timedelta
from math import isclose
from typing import Any, NamedTuple

from llmquiz.core.day import Calendar
from llmquiz.core.options import Options
from llmquiz.core.schedule import Schedule, State

CREATED_ON = date(2020, 1, 1).toordinal()
FACTOR = 2500
PRESET_ID = 1_763_769_600_201
_BURIED = (-2, -3)
_SUSPENDED, _NEW, _LEARNING, _REVIEW, _DAY_LEARNING = -1, 0, 1, 2, 3
_MARK = "was"
_LENT = "lent"
_MARKED = ("due", "stability", "difficulty", "last_review", "reps")
_TOLERANCE = 1e-12
"""SQLite writes 15 digits of a number into JSON."""
_PACKED = struct.Struct("<6q3d")
_load = json.JSONDecoder().decode
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_OF_MEMORY = ("s", "d", "dr", "decay", "lrt")
REVLOG_TYPES = {State.NEW: 0, State.LEARNING: 0, State.REVIEW: 1, State.RELEARNING: 2}


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


_KINDS: dict[str, type] = dict.fromkeys(CardState._fields, int) | {"data": str}
CAME = ", ".join(
    [f"json_extract(kept, '$.{name}') AS came_{name}" for name in CardState._fields if name != "factor"]
    + [f"json_extract(kept, '$.{_MARK}[{place}]') AS was_{name}" for place, name in enumerate(_MARKED)]
    + [f"""instr(kept, '"{_LENT}":') > 0 AS is_lent"""]
)
"""In SQL, what `kept` holds: the columns of `CardState` as ``came_…``, those that the mark is made of as ``was_…``."""
STANDS = f"""
    NOT is_lent AND came_type = state AND (came_queue = {_SUSPENDED}) = suspended AND came_flags & 7 = flag
    AND (came_queue NOT IN {_BURIED} OR buried_on >= :today)
    AND was_due = iif(state = {State.NEW.value}, 0, due) AND was_reps = reps AND """ + " AND ".join(
    f"(was_{name} IS {name} OR abs(was_{name} - {name}) <= {_TOLERANCE} * abs({name}))" for name in _MARKED[1:4]
)
"""In SQL, with these and the columns of `schedule`: whether `restored` would give the card back just as it came."""


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
    """JSON; put together by hand, since there is one for every card."""
    memory = ""
    if schedule.memory is not None:
        stability, difficulty = round(schedule.memory.stability, 4), round(schedule.memory.difficulty, 3)
        retention, decay = round(options.desired_retention, 2), round(options.parameters[20], 3)
        memory = f',"s":{stability},"d":{difficulty},"dr":{retention},"decay":{decay}'
    answered = "" if schedule.last_review is None else f',"lrt":{int(schedule.last_review)}'
    return f'{{"pos":{position}{memory}{answered}}}'


def counts_days(card_type: int, queue: int) -> bool:
    """Whether Anki counts such a card's `due` in days from its collection's creation, and moves it on import."""
    return card_type == State.REVIEW or queue in (_REVIEW, _DAY_LEARNING)


def restored(state: CardState, schedule: Schedule, *, factor: int, kept: str, buried: bool) -> CardState:
    """`state`, which `card_state` made of `schedule`, for a card that came from Anki.

    Args:
        factor, kept: those of its `llmquiz.store.incoming.AnkiCard`.
        buried: whether the day of its burial, if it came buried, still lasts.
    """
    told: dict[str, Any] = _load(kept)
    was: dict[str, Any] = {name: value for name, value in told.items() if type(value) is _KINDS.get(name)}
    flags = state.flags | was.pop("flags", 0) & ~7
    if not _stands(told.get(_MARK), schedule) or was.get("type", schedule.state) != schedule.state:
        return state._replace(factor=factor, flags=flags, data=_merged(was.get("data", ""), state.data))
    came = was.get("queue")
    if (came == _SUSPENDED) != (state.queue == _SUSPENDED) or (came in _BURIED and not buried):
        was.pop("queue", None)
        if schedule.state is not State.NEW:
            was.pop("due", None)
    return state._replace(**{"factor": factor, "flags": flags, **was})


class Lent(NamedTuple):
    """A card in a filtered deck: the id of that deck, what is due there and at home, and the queue."""

    deck: int
    due: int
    home_due: int
    queue: int


def lent(state: CardState, schedule: Schedule, *, kept: str) -> Lent | None:
    """Where a filtered deck of Anki's had the card, if nothing here has changed it; `state` is what goes back of it."""
    told: dict[str, Any] = _load(kept)
    it = told.get(_LENT)
    if not isinstance(it, list) or len(it) != len(Lent._fields) or not all(type(number) is int for number in it):
        return None
    stands = state.queue == told.get("queue") and state.queue >= 0 and _stands(told.get(_MARK), schedule)
    return Lent(*it) if stands else None


def _stands(mark: object, schedule: Schedule) -> bool:
    """Whether `schedule` is still the one that came."""
    if isinstance(mark, int):
        return mark == _mark(schedule)
    memory, due = schedule.memory, 0 if schedule.state is State.NEW else schedule.due
    stability, difficulty = (memory.stability, memory.difficulty) if memory else (None, None)
    now = [due, stability, difficulty, schedule.last_review, schedule.reps]
    return isinstance(mark, list) and len(mark) == len(now) and all(map(_agree, mark, now))


def _agree(one: object, other: float | None) -> bool:
    if other is None or not isinstance(one, int | float):
        return one is other
    return isclose(one, other, rel_tol=_TOLERANCE)


def _mark(schedule: Schedule) -> int:
    """The checksum of the first version. The queue of new cards may move a card without touching it."""
    memory, due = schedule.memory, 0 if schedule.state is State.NEW else schedule.due
    stability, difficulty = (memory.stability, memory.difficulty) if memory else (0.0, 0.0)
    last_review = -1.0 if schedule.last_review is None else schedule.last_review
    counts = schedule.state.value, due, schedule.interval, schedule.steps_left, schedule.reps, schedule.lapses
    return zlib.crc32(_PACKED.pack(*counts, last_review, stability, difficulty))


def _merged(theirs: str, ours: str) -> str:
    """`ours` with what Anki and its add-ons keep in a card's data beyond its memory."""
    try:
        rest = json.loads(theirs or "{}")
    except ValueError:
        return ours
    if not isinstance(rest, dict):
        return ours
    kept = {name: value for name, value in rest.items() if name not in _OF_MEMORY}
    return _compact(json.loads(ours) | kept)


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
