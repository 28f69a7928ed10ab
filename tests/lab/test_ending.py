"""What was seen of a run's end becomes one outcome and one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmquiz.lab.ending import judge
from llmquiz.lab.events import Outcome, RunEnded
from llmquiz.lab.job import Ending, Job

JOB = Job("mine", "labs/mine", {}, "auto", 0, 60.0, 500, ".", ("torch",), ("a",), ("b",))
OK = RunEnded(Outcome.OK, 0.0)


def ending(code: int = 0, stopped: Outcome | None = None, *, ran: bool = True) -> Ending:
    return Ending(code, stopped, 2.0, ran, 100.0)


@pytest.mark.parametrize(
    ("seen", "verdict", "cancelled", "outcome", "words"),
    [
        (ending(), OK, False, Outcome.OK, None),
        (ending(stopped=Outcome.CANCELLED), OK, True, Outcome.OK, None),
        (ending(-15, Outcome.CANCELLED), OK, True, Outcome.CANCELLED, "was cancelled"),
        (ending(-9, Outcome.MEMORY), None, False, Outcome.MEMORY, "100 MB in use, 500 MB allowed"),
        (ending(-15, Outcome.TIMEOUT), None, False, Outcome.TIMEOUT, "time budget of 60 s"),
        (ending(-15, Outcome.TIMEOUT, ran=False), None, False, Outcome.TIMEOUT, "did not begin within 2 s"),
        (ending(-11), None, False, Outcome.FAILED, "died of SIGSEGV"),
        (ending(-64), None, False, Outcome.FAILED, "died of"),
        (ending(1), None, False, Outcome.FAILED, "exited with status 1"),
        (None, None, False, Outcome.FAILED, "lost its supervisor"),
        (None, None, True, Outcome.CANCELLED, "was cancelled"),
    ],
)
def test_judgements(
    seen: Ending | None, verdict: RunEnded | None, cancelled: bool, outcome: Outcome, words: str | None
) -> None:
    ended = judge(JOB, Path("mine.log"), seen, verdict, cancelled=cancelled)

    assert ended.outcome is outcome
    assert (ended.error is None) == (words is None)
    assert words is None or words in str(ended.error)
    assert ended.log == "mine.log"


@pytest.mark.parametrize("message", [ending(-9, Outcome.MEMORY), ending(3, ran=False)])
def test_an_ending_survives_its_line(message: Ending) -> None:
    assert Ending.decode(message.encode()) == message


def test_a_job_survives_its_line() -> None:
    assert Job.decode(JOB.encode()) == JOB
