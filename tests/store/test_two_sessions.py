"""Two sessions on one database: each answer is kept once, none is written over another, and nobody waits for long."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from llmquiz.core.rating import Rating
from llmquiz.deck.library import Folder, Library, load_into
from llmquiz.store import Store, filesystem, health
from llmquiz.study.session import Session, StaleCardError
from tests.store.crash_child import OPTIONS, Children
from tests.support.making import CALENDAR, NOON, FrozenClock, make_card, make_deck

Two = tuple[Session, Session]
SLOW = pytest.mark.slow
both_journals = pytest.mark.parametrize("network", [False, pytest.param(True, marks=SLOW)], ids=["log", "journal"])


@pytest.fixture(params=[False, True], ids=["log", "journal"])
def two(path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Two]:
    """Two sessions with connections of their own, on a local disk and on a network folder."""
    monkeypatch.setattr(filesystem, "is_network", lambda folder: request.param)
    clock = FrozenClock()
    with Store.open(path) as one, Store.open(path) as other:
        one.sync([make_deck(*(make_card(f"c{number}") for number in range(12)))], now=NOON)
        options = replace(OPTIONS, new_per_day=10)
        yield tuple(Session(store, options, calendar=CALENDAR, clock=clock) for store in (one, other))  # type: ignore[misc]


def answer(session: Session) -> int:
    assert session.next() is not None
    return session.rate(Rating.EASY, duration_ms=1).schedule_id


def test_a_card_that_was_answered_elsewhere_is_refused_and_the_next_one_comes(two: Two) -> None:
    here, there = two
    mine, theirs = here.next(), there.next()
    assert mine is not None
    assert theirs is not None
    assert mine.schedule_id == theirs.schedule_id
    answer(here)
    with pytest.raises(StaleCardError, match="was changed elsewhere meanwhile"):
        there.rate(Rating.AGAIN, duration_ms=1)
    assert answer(there) != mine.schedule_id
    assert len(here.store.history(mine.schedule_id)) == 1


def test_an_undo_takes_back_no_answer_of_the_other_session(two: Two) -> None:
    here, there = two
    first, second = answer(here), answer(there)
    with pytest.raises(StaleCardError, match="was given in another llmquiz; take it back there"):
        here.undo()
    assert [len(here.store.history(schedule)) for schedule in (first, second)] == [1, 1]
    undone = there.undo()
    assert undone is not None
    assert undone.schedule_id == second
    taken = here.undo()  # now the last answer that stands is its own
    assert taken is not None
    assert taken.schedule_id == first


def test_what_was_done_before_a_restart_can_be_taken_back(path: Path, two: Two) -> None:
    schedule = answer(two[0])
    with Store.open(path) as later:
        undone = Session(later, OPTIONS, calendar=CALENDAR, clock=FrozenClock()).undo()
    assert undone is not None
    assert undone.schedule_id == schedule


def test_what_another_screen_of_this_process_did_can_be_taken_back(two: Two) -> None:
    here = two[0]
    here.store.set_suspended("c5", True, now=NOON)
    undone = here.undo()
    assert undone is not None
    assert (undone.kind, undone.card_id) == ("suspend", "c5")


def test_the_days_limit_holds_for_both_together(two: Two) -> None:
    answered = 0
    for number in range(30):
        if two[number % 2].next() is not None:
            answer(two[number % 2])
            answered += 1
    assert answered == 10
    assert [session.counts.new for session in two] == [0, 0]


@both_journals
@pytest.mark.parametrize("answers", [10, pytest.param(40, marks=SLOW)])
def test_two_processes_lose_no_answer_while_a_third_syncs_decks(
    path: Path, children: Children, network: bool, answers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem, "is_network", lambda folder: network)
    with Store.open(path) as store:
        store.sync([make_deck(*(make_card(f"c{number}") for number in range(200)))], now=NOON)
    sessions = [{"do": "stubborn", "seed": seed, "answers": answers} for seed in range(2)]
    others = [{"do": "syncs", "times": answers // 4, "cards": 20, "think": 0.01}, {"do": "backups", "times": 3}]
    ended = children.run("together", path, jobs=[*sessions, *others], network=network)

    assert ended.lines[-1] == ["codes", "0", "0", "0", "0"], ended.lines
    told = [json.loads(" ".join(line)) for line in ended.lines if line[0].startswith("{")]
    acknowledged = [review for one in told for review in one["mine"]]
    assert len(told) == 2
    assert len(set(acknowledged)) == len(acknowledged) == 2 * answers
    assert [one["locked"] for one in told] == [0, 0]
    with Store.open(path) as store:
        kept = store.connection.execute("SELECT id FROM live_review").fetchall()
        assert {row[0] for row in kept} == set(acknowledged)
        counted = """SELECT count(*) FROM schedule WHERE reps <>
        (SELECT count(*) FROM live_review WHERE live_review.schedule = schedule.id)"""
        assert store.connection.execute(counted).fetchone()[0] == 0
    assert health.inspect(path).problems == ()


@pytest.mark.slow
def test_many_processes_may_be_the_first_on_a_network_folder(path: Path, children: Children) -> None:
    """The database still keeps the log that it had on a local disk; each wants to be alone with it."""
    with Store.open(path) as store:
        store.sync([make_deck(make_card("a"))], now=NOON)
    for network in (True, False):  # and back
        ended = children.run("together", path, jobs=[{"do": "opening"}] * 6, network=network)
        assert ended.lines[-1] == ["codes", *"000000"], ended.lines


@pytest.mark.slow
def test_commands_run_beside_a_session(tmp_path: Path, children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a network folder, where whoever reads keeps others from writing."""
    monkeypatch.setattr(filesystem, "is_network", lambda folder: True)
    path = tmp_path / "home" / "data" / "llmquiz.db"
    decks = path.parent / "decks"
    decks.mkdir(parents=True)
    cards = "".join(f"## Why {number}? {{#c{number} topic=t}}\n\nBecause.\n\n" for number in range(200))
    (decks / "toy.en.md").write_text(f"# Toy\n\n{cards}")
    with Store.open(path) as store:
        load_into(store, now=NOON, library=Library([Folder(decks, builtin=False)]))
    lines = [
        "backup",
        "stats --json",
        "doctor --json",
        "export anki --out {home}/out.apkg toy",
        "search why --json",
        "backup --list",
    ]
    jobs = [{"do": "stubborn", "seed": 1, "answers": 40, "think": 0.02}, {"do": "command", "lines": lines}]
    ended = children.run("together", path, jobs=jobs, network=True)

    assert ended.lines[-1] == ["codes", "0", "0"], ended.lines
    codes = next(line[1:] for line in ended.lines if line[0] == "exit")
    assert [code for words, code in zip(lines, codes, strict=True) if "doctor" not in words and code != "0"] == []
    told = next(json.loads(" ".join(line)) for line in ended.lines if line[0].startswith("{"))
    assert (len(told["mine"]), told["locked"]) == (40, 0)
    assert health.inspect(path).reviews == 40 + told["undone"]
