"""A second process makes some of the notes, and none of what may happen to it is seen in them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmquiz.anki.exporting import rendering
from llmquiz.anki.exporting.rendering import WORTH_A_PROCESS, Rendered, Task, rendered
from llmquiz.anki.exporting.worker import Worker, WorkerError
from llmquiz.core.card import Card, Lang
from llmquiz.store.codec import encode_card

COUNT = 1_000
Rows = list[tuple[Rendered | None, int]]


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[Worker[Any, Any]]:
    """The second processes that were started, as on a machine that has a core for each."""
    started: list[Worker[Any, Any]] = []

    class Kept(Worker[Any, Any]):
        def __init__(self, function: Callable[..., object]) -> None:
            super().__init__(function)
            started.append(self)

    monkeypatch.setattr(rendering, "Worker", Kept)
    monkeypatch.setattr(rendering, "cores", lambda: 2)
    monkeypatch.setattr(rendering, "_AHEAD", 6)
    return started


@pytest.fixture
def cards(make: type) -> list[tuple[str | None, int]]:
    """Cards of every kind, some that take the parser, and some that are no card of ours."""
    makers = (make.card, make.cloze, make.choice, make.predict)
    table = make.text("*soft*", "| a | b |\n|---|---|\n| $x$ | 2 |", detail="```python\nx = 1\n```")
    made = [makers[number % 4](f"card-{number}") for number in range(COUNT)]
    made[::10] = [make.card(f"table-{number}", en=table) for number in range(0, COUNT, 10)]
    return [(encode_card(card) if is_ours(number) else None, number) for number, card in enumerate(made)]


def is_ours(number: int) -> bool:
    return number % 7 != 0 and not 100 <= number < 250


def evidence(card: Card) -> tuple[str, int]:
    return (f"<br>{card.id}", 5) if card.lab else ("", 0)


def all_of(cards: list[tuple[str | None, int]], during: Callable[[], object] = lambda: None, count: int = 0) -> Rows:
    """The notes of `cards`; `during` is called when some of them have been read."""

    def read() -> Iterator[tuple[str | None, int]]:
        for number, card in enumerate(cards):
            if number == COUNT // 2:
                during()
            yield card

    return list(rendered(read(), (Lang.EN,), evidence, count=count))


def wait_for(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_both_make_the_same_notes_in_order(
    workers: list[Worker[Any, Any]], cards: list[tuple[str | None, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = all_of(cards)
    assert not workers
    here, render = [], rendering.render

    def seen(task: Task) -> list[Rendered]:
        here.append(task)
        return render(task)

    seen.__module__, seen.__name__ = render.__module__, render.__name__
    monkeypatch.setattr(rendering, "render", seen)
    assert all_of(cards, lambda: wait_for(workers[0].ready), WORTH_A_PROCESS) == alone
    assert [number for _, number in alone] == list(range(COUNT))
    assert [number for note, number in alone if note is None] == [it for it in range(COUNT) if not is_ours(it)]
    assert {note.measured_at for note, _ in alone if note} == {0, 5}
    assert 0 < sum(len(task.contents) for task in here) < sum(note is not None for note, _ in alone)


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
@pytest.mark.parametrize("number", ["SIGKILL", "SIGSTOP"])
def test_a_second_process_that_dies_or_hangs_loses_no_note(
    workers: list[Worker[Any, Any]], cards: list[tuple[str | None, int]], number: str
) -> None:
    def hit() -> None:
        wait_for(workers[0].ready)
        os.kill(workers[0]._process.pid, getattr(signal, number))

    assert all_of(cards, hit, WORTH_A_PROCESS) == all_of(cards)
    assert workers[0]._process.poll() is not None


@pytest.mark.parametrize("executable", ["", "/nowhere/python", "/bin/false"])
def test_no_second_process_no_matter(
    workers: list[Worker[Any, Any]],
    cards: list[tuple[str | None, int]],
    executable: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    assert all_of(cards, lambda: time.sleep(0.1), WORTH_A_PROCESS) == all_of(cards)


def test_an_export_that_is_given_up_leaves_nothing(
    workers: list[Worker[Any, Any]], cards: list[tuple[str | None, int]]
) -> None:
    notes = rendered(iter(cards), (Lang.EN,), evidence, count=WORTH_A_PROCESS)
    next(notes)
    folder = Path(workers[0]._folder)
    assert folder.exists()
    notes.close()
    assert workers[0]._process.poll() is not None
    assert not folder.exists()


def test_a_card_that_cannot_be_read_says_so(workers: list[Worker[Any, Any]]) -> None:
    with pytest.raises(KeyError, match="topic"):
        all_of([('{"id":"x","deck":"y"}', 0)] * COUNT, count=WORTH_A_PROCESS)


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
def test_the_second_process_ignores_an_interrupt_and_ends_with_the_first(make: type) -> None:
    """The first is a script without a main guard, as `python -c` is."""
    script = """if True:
        from llmquiz.anki.exporting.rendering import Task, render
        from llmquiz.anki.exporting.worker import Worker
        import os, signal, sys, time
        worker = Worker(render)
        for _ in range(2):
            worker.give(Task([sys.argv[1]], [("", 0)], ["en"]))
            while not worker.ready():
                time.sleep(0.005)
            worker.take()
            os.kill(worker._process.pid, signal.SIGINT)
        print(worker._process.pid, worker._folder, flush=True)
        time.sleep(60)
    """
    command = [sys.executable, "-c", script, encode_card(make.card())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout
        pid, folder = first.stdout.readline().split()
        assert Path(folder).exists()
        os.kill(int(pid), 0)
        first.kill()
    wait_for(lambda: not Path(folder).exists())


def test_a_function_that_fails_ends_the_worker() -> None:
    worker = Worker(rendering.render)
    try:
        worker.give(Task(["no card"], [("", 0)], [Lang.EN]))
        with pytest.raises(WorkerError):
            wait_for(worker.ready)
    finally:
        worker.close()
