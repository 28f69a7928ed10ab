"""Answers cards at random in a real Anki collection, asks our scheduler for the same, prints what differed as JSON.

Run as a process of its own: Anki reads ``ANKI_TEST_MODE``, which switches its fuzz off, once a process. Anki takes the
present from the system's clock, so time passes by moving the card into the past: its due day and the time of its last
review. The hour of the day is chosen through the hour at which Anki's day rolls over, which makes the real present any
hour of a day of ours.

    python tests/core/anki_parity.py --answers 500 --seed 1
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC
from pathlib import Path
from typing import Any

os.environ["ANKI_TEST_MODE"] = "1"

from anki.collection import Collection
from anki.scheduler_pb2 import CardAnswer, SchedulingState, SchedulingStates

from llmquiz.core.day import Calendar
from llmquiz.core.options import DAY_SECONDS, Options
from llmquiz.core.rating import Rating
from llmquiz.core.schedule import Memory, Schedule, State
from llmquiz.core.scheduler import Outcome, Scheduler

CALENDAR = Calendar(rollover_hour=4, zone=UTC)
FIRST_DAY = 739_000
ANSWERS_PER_CARD = 10
RATINGS = (Rating.AGAIN, Rating.HARD, Rating.GOOD, Rating.EASY)
WEIGHTS = (18, 14, 53, 15)
RETENTIONS = (0.7, 0.8, 0.9, 0.95)
LEARNING = ((60, 600), (), (60,), (600, DAY_SECONDS), (60, 3600, 2 * DAY_SECONDS), (8 * 3600,))
TWENTY_YEARS = 20 * 365
RELEARNING = ((600,), (), (60, 1200), (DAY_SECONDS,), (3600, 3 * DAY_SECONDS))


@dataclass
class Tally:
    """What was compared and what differed. Intervals are days, or seconds for a step within the day."""

    answers: int = 0
    intervals: int = 0
    off_by_one: int = 0
    farthest_from_edge: float = 0.0
    wrong: int = 0
    states: int = 0
    memories: int = 0
    memories_off: int = 0
    largest_memory_error: float = 0.0
    rows_off: int = 0
    examples: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        if len(self.examples) < 20:
            self.examples.append(text)


@dataclass(frozen=True)
class Next:
    """What one answer leads to, in words that both sides share."""

    state: State
    days: int | None
    seconds: int | None
    steps_left: int
    lapses: int
    leech: bool
    memory: Memory


class AnkiCard:
    """One card of a real collection, seen at the moments of our own calendar."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        notetype = collection.models.by_name("Basic")
        note = collection.new_note(notetype)
        note.fields = ["front", "back"]
        collection.add_note(note, 1)
        self.id = note.cards()[0].id

    def place(self, schedule: Schedule, at: float, now: float) -> None:
        """Put the card where it would be if `at`, a moment of ours, were the real present `now`."""
        if schedule.last_review is None:
            return
        today = self.collection.sched.today
        row = self.collection.db.first("SELECT queue, data FROM cards WHERE id = ?", self.id)
        data = json.loads(row[1]) | {"lrt": int(now - (at - schedule.last_review))}
        if row[0] == 1:
            due = int(now + schedule.due - at)
        elif schedule.state is State.REVIEW:
            due = today + schedule.due - CALENDAR.day(at)
        else:
            due = today + CALENDAR.day(schedule.due) - CALENDAR.day(at)
        self.collection.db.execute("UPDATE cards SET due = ?, data = ? WHERE id = ?", due, json.dumps(data), self.id)

    def states(self) -> SchedulingStates:
        return self.collection._backend.get_scheduling_states(self.id)

    def answer(self, states: SchedulingStates, rating: Rating) -> None:
        answer = CardAnswer(
            card_id=self.id,
            current_state=states.current,
            new_state=getattr(states, rating.name.lower()),
            rating=rating.value - 1,
            answered_at_millis=int(time.time() * 1000),
            milliseconds_taken=1000,
        )
        self.collection._backend.answer_card(answer)

    def row(self) -> tuple[int, int, int, int, int, float, float]:
        """Type, interval, steps left, answers, lapses, stability and difficulty, as Anki has stored them."""
        row = self.collection.db.first("SELECT type, ivl, left, reps, lapses, data FROM cards WHERE id = ?", self.id)
        data = json.loads(row[5])
        return row[0], row[1], row[2] % 1000, row[3], row[4], data["s"], data["d"]


def configure(collection: Collection, options: Options) -> None:
    """Give the default preset of the collection our options."""
    config = collection.decks.config_dict_for_deck_id(1)
    config["desiredRetention"] = options.desired_retention
    config["new"]["delays"] = [seconds / 60 for seconds in options.learning_steps]
    config["lapse"]["delays"] = [seconds / 60 for seconds in options.relearning_steps]
    config["lapse"]["leechFails"] = options.leech_threshold
    config["lapse"]["leechAction"] = 1
    collection.decks.update_config(config)


def set_hour(collection: Collection, chance: random.Random) -> tuple[float, float]:
    """Let Anki's day roll over at a random hour; returns the present and the seconds since it rolled over."""
    if time.time() % 3600 > 3590:
        time.sleep(12)  # an hour, and so perhaps a day, is about to pass under our feet
    preferences = collection.get_preferences()
    while True:
        preferences.scheduling.rollover = chance.randrange(24)
        collection.set_preferences(preferences)
        now, cutoff = time.time(), collection.sched.day_cutoff
        if now < cutoff <= now + DAY_SECONDS:  # Anki puts the cutoff into the past if it is the hour that runs
            return now, now - (cutoff - DAY_SECONDS)


def from_anki(state: SchedulingState, lapses: int, until_rollover: int) -> Next:
    normal = state.normal
    kind = normal.WhichOneof("kind")
    if kind == "review":
        review = normal.review
        memory = Memory(review.memory_state.stability, review.memory_state.difficulty)
        return Next(State.REVIEW, review.scheduled_days, None, 0, review.lapses, review.leeched, memory)
    relearning = kind == "relearning"
    step = normal.relearning.learning if relearning else normal.learning
    memory = Memory(step.memory_state.stability, step.memory_state.difficulty)
    within = step.scheduled_secs < until_rollover
    days = None if within else (step.scheduled_secs - until_rollover) // DAY_SECONDS + 1
    return Next(
        State.RELEARNING if relearning else State.LEARNING,
        days,
        step.scheduled_secs if within else None,
        step.remaining_steps,
        normal.relearning.review.lapses if relearning else lapses,
        normal.relearning.review.leeched if relearning else False,
        memory,
    )


def from_ours(outcome: Outcome) -> Next:
    after = outcome.schedule
    assert after.memory is not None
    return Next(
        after.state,
        outcome.interval_days,
        outcome.delay_seconds,
        after.steps_left,
        after.lapses,
        outcome.leech,
        after.memory,
    )


@dataclass(frozen=True)
class Edges:
    """How near to the edge of its rounding the nearest interval lies, relative to its length.

    Days are rounded at their half, the seconds of a step that FSRS sets are cut at the whole. Of all ratings, for a
    rating's interval is at least a day above the one below it.
    """

    days: float
    seconds: float

    @classmethod
    def of(cls, scheduler: Scheduler, schedule: Schedule, at: float) -> Edges:
        elapsed = 0 if schedule.last_review is None else CALENDAR.day(at) - CALENDAR.day(schedule.last_review)
        memories = scheduler.model.after(schedule.memory, max(elapsed, 0)).values()
        ideals = [scheduler.model.interval(memory) for memory in memories]
        seconds = [ideal * DAY_SECONDS for ideal in ideals]
        return cls(
            min(abs(ideal % 1 - 0.5) / ideal for ideal in ideals),
            min(abs(one - round(one)) / one for one in seconds),
        )


def compare(tally: Tally, ours: Next, anki: Next, edges: Edges, where: str) -> None:
    tally.intervals += 1
    if (ours.days, ours.seconds) != (anki.days, anki.seconds):
        days = ours.days is not None and anki.days is not None and abs(ours.days - anki.days) == 1
        seconds = ours.seconds is not None and anki.seconds is not None and abs(ours.seconds - anki.seconds) == 1
        tally.off_by_one += days or seconds
        tally.wrong += not (days or seconds)
        if days or seconds:
            tally.farthest_from_edge = max(tally.farthest_from_edge, edges.days if days else edges.seconds)
        tally.note(f"{where}: interval {ours.days}d {ours.seconds}s, Anki {anki.days}d {anki.seconds}s")
    if (ours.state, ours.steps_left, ours.lapses, ours.leech) != (anki.state, anki.steps_left, anki.lapses, anki.leech):
        tally.states += 1
        tally.note(f"{where}: {ours}, Anki {anki}")
    tally.memories += 1
    error = max(
        abs(ours.memory.stability - anki.memory.stability) / max(anki.memory.stability, 0.05),
        abs(ours.memory.difficulty - anki.memory.difficulty),
    )
    tally.largest_memory_error = max(tally.largest_memory_error, error)
    if error > 2e-3:
        tally.memories_off += 1
        tally.note(f"{where}: {ours.memory}, Anki {anki.memory}")


def next_day(schedule: Schedule, day: int, chance: random.Random) -> int:
    """A study day for the next answer: early, on time or late."""
    if schedule.state is State.NEW:
        return day + chance.randrange(3)
    if schedule.state is not State.REVIEW:
        return max(CALENDAR.day(schedule.due), day) + chance.choice((0, 0, 0, 1, 6))
    wait = max(schedule.due - day, 0)
    share = chance.choice((0.0, 0.4, 0.9, 1.0, 1.0, 1.0, 1.1, 1.7))
    return day + round(wait * share)


def study(collection: Collection, options: Options, answers: int, chance: random.Random, tally: Tally) -> None:
    configure(collection, options)
    scheduler = Scheduler(options, CALENDAR)
    done = 0
    while done < answers:
        card, schedule, day, last = AnkiCard(collection), Schedule(), FIRST_DAY, 0.0
        for _ in range(min(ANSWERS_PER_CARD, answers - done)):
            day = next_day(schedule, day, chance)
            now, phase = set_hour(collection, chance)
            at = CALENDAR.start(day) + phase
            if at <= last:
                day, at = day + 1, at + DAY_SECONDS
            schedule, last = one_answer(card, schedule, scheduler, at, now, chance, tally), at
            done += 1
            if schedule.interval > TWENTY_YEARS:
                break


def one_answer(
    card: AnkiCard, schedule: Schedule, scheduler: Scheduler, at: float, now: float, chance: random.Random, tally: Tally
) -> Schedule:
    """Compare all four outcomes, answer on both sides, compare what was stored; go on with what Anki has stored."""
    card.place(schedule, at, now)
    outcomes = scheduler.next(schedule, at, seed=card.id)
    states = card.states()
    until_rollover = int(card.collection.sched.day_cutoff) - int(now)
    edges = Edges.of(scheduler, schedule, at)
    for rating, outcome in outcomes.items():
        anki = from_anki(getattr(states, rating.name.lower()), schedule.lapses, until_rollover)
        where = f"{scheduler.options.desired_retention} {scheduler.options.learning_steps}"
        where += f" {scheduler.options.relearning_steps} {schedule} at {at} {rating.name}"
        compare(tally, from_ours(outcome), anki, edges, where)
    rating = chance.choices(RATINGS, WEIGHTS)[0]
    card.answer(states, rating)
    tally.answers += 1
    after = outcomes[rating].schedule
    kind, interval, steps_left, reps, lapses, stability, difficulty = card.row()
    assert after.memory is not None
    ours = (after.state, after.steps_left, after.reps, after.lapses)
    close = abs(after.memory.stability - stability) <= 1e-3 * max(stability, 0.2)
    if ours != (kind, steps_left, reps, lapses) or not close or abs(after.memory.difficulty - difficulty) > 2e-3:
        tally.rows_off += 1
        tally.note(f"stored {after}, Anki {card.row()}")
    due = after.due + (interval - after.interval if after.state is State.REVIEW else 0)
    kept = interval if after.state in (State.REVIEW, State.RELEARNING) else 0
    return replace(after, memory=Memory(stability, difficulty), interval=kept, due=due)


def configurations(chance: random.Random) -> list[Options]:
    """Each retention with each pair of steps, in random order."""
    found = [
        Options(
            desired_retention=retention,
            learning_steps=learning,
            relearning_steps=relearning,
            leech_threshold=chance.choice((3, 8)),
            fuzz=False,
        )
        for retention in RETENTIONS
        for learning in LEARNING
        for relearning in RELEARNING
    ]
    chance.shuffle(found)
    return found


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--answers", type=int, default=500)
    arguments.add_argument("--seed", type=int, default=1)
    wanted = arguments.parse_args()
    chance, tally = random.Random(wanted.seed), Tally()
    with tempfile.TemporaryDirectory() as folder:
        collection = Collection(str(Path(folder) / "parity.anki2"))
        collection.set_config("fsrs", True)
        collection.db.execute("UPDATE col SET crt = crt - ?", 4000 * DAY_SECONDS)
        options = configurations(chance)
        share = max(wanted.answers // len(options), ANSWERS_PER_CARD)
        for one in options:
            if tally.answers >= wanted.answers:
                break
            study(collection, one, share, chance, tally)
        collection.close()
    result: dict[str, Any] = asdict(tally)
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
