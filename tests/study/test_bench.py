"""A card's lab in the line mode, with a real lab in a real child process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmquiz.core.card import Card, CardText, Frequency, Kind, LabLink, Lang, Level
from llmquiz.core.errors import UsageError
from llmquiz.core.rating import Rating
from llmquiz.lab.catalog import Catalog
from llmquiz.study.bench import Bench
from tests.study.collection import NOON, OPEN, Collection

pytestmark = pytest.mark.skipif(os.name != "posix", reason="labs run on POSIX")
LABS = Path(__file__).parents[1] / "lab" / "fixtures"


def card(lab: str = "quick", **params: str) -> Card:
    return Card(
        "sum", "toy", "squares", Kind.PREDICT, Level.L1, Frequency.LOW, {Lang.EN: CardText("Sum?", "30")},
        lab=LabLink(lab, params, "total"),
    )  # fmt: skip


@pytest.fixture
def bench(collection: Collection) -> Bench:
    return Bench(collection.store, Catalog([(LABS, True)]), collection.clock, Lang.EN)


def test_a_run_is_told_in_lines_and_kept(bench: Bench) -> None:
    said: list[str] = []
    assert bench(card(), None, said.append) is None
    assert said[0] == "Starting lab quick; Ctrl+C stops it."
    assert said[1] == "Running lab quick on cpu."
    assert "squaring 4/4 number" in said
    assert "total: 30 1" in said
    assert "The square grows with exponent two. holds" in said
    assert said[-1].startswith("Lab ended: ok, ")
    (run,) = bench.store.runs()
    assert (run.lab, run.card, run.outcome, run.started_at, run.metrics) == (
        "quick",
        "sum",
        "ok",
        NOON,
        {"total": 30.0},
    )
    assert bench.store.predictions() == []


@pytest.mark.parametrize(("guess", "rating"), [(30.0, Rating.EASY), (40.0, Rating.GOOD), (1000.0, Rating.AGAIN)])
def test_a_guess_is_scored_and_kept(bench: Bench, guess: float, rating: Rating) -> None:
    said: list[str] = []
    assert bench(card(), guess, said.append) is rating
    assert said[-1].startswith(f"You guessed {guess:.4g} 1, measured 30 1: off by a factor of")
    (kept,) = bench.store.predictions("sum")
    assert (kept.guess, kept.measured, kept.metric) == (guess, 30.0, "total")


def test_the_cards_parameters_are_used(bench: Bench) -> None:
    bench(card(count="2"), None, lambda line: None)
    assert bench.store.runs()[0].metrics == {"total": 5.0}


def test_a_lab_that_crashes_is_told_and_kept(bench: Bench) -> None:
    said: list[str] = []
    assert bench(card("crashing"), None, said.append) is None
    assert said[-1].startswith("Lab ended: failed, ")
    assert bench.store.runs()[0].outcome == "failed"


def test_what_cannot_run_is_an_error_before_it_starts(bench: Bench) -> None:
    with pytest.raises(UsageError, match="no lab 'nowhere'"):
        bench(card("nowhere"), None, lambda line: None)
    with pytest.raises(UsageError, match="count"):
        bench(card(count="1"), None, lambda line: None)
    assert bench.store.runs() == []


def test_a_card_without_a_lab_is_an_error(bench: Bench) -> None:
    with pytest.raises(UsageError, match="'scale' has no lab"):
        bench(OPEN, None, lambda line: None)
