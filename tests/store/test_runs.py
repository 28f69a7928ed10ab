"""Lab runs and guesses come back as they were kept, youngest first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmquiz.core.errors import StoreError
from llmquiz.store import PredictionRecord, RunRecord, Store

RUN = RunRecord(
    lab="kv-cache",
    started_at=100.5,
    seconds=2.5,
    outcome="ok",
    params={"tokens": 256},
    device="cpu",
    versions={"torch": "2"},
    metrics={"latency": 1.25},
    claims=[{"name": "flat", "held": True}],
    series=[{"metric": "latency", "points": [[1, 2.0]]}],
    tables=[{"name": "t", "columns": ["a"], "rows": [[1]]}],
    card="kv",
)


def test_a_run_comes_back_whole(store: Store) -> None:
    run_id = store.add_run(RUN)
    assert store.runs() == [replace(RUN, id=run_id)]


def test_the_youngest_first_of_one_lab(store: Store) -> None:
    for number, lab in enumerate(("a", "b", "a", "a")):
        store.add_run(replace(RUN, lab=lab, started_at=float(number)))
    assert [run.started_at for run in store.runs("a", limit=2)] == [3.0, 2.0]
    assert len(store.runs()) == 4


def test_an_unknown_outcome_is_refused(store: Store) -> None:
    with pytest.raises(StoreError):
        store.add_run(replace(RUN, outcome="great"))
    assert store.runs() == []


def test_predictions(store: Store) -> None:
    run = store.add_run(RUN)
    guess = PredictionRecord(card="kv", metric="latency", guess=2.0, at=5.0, run=run, measured=1.0, score="good")
    number = store.add_prediction(guess)
    store.add_prediction(replace(guess, card="other"))
    assert store.predictions("kv") == [replace(guess, id=number)]


def test_meta(store: Store) -> None:
    assert store.meta("a") is None
    store.set_meta("a", "1")
    store.set_meta("a", "2")
    assert store.meta("a") == "2"
