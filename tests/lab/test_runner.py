"""A lab may crash, hang, swell, print or break its claim: the run ends with one event that says so."""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llmquiz.core.errors import LabError, MissingExtraError, UsageError
from llmquiz.lab import runner
from llmquiz.lab.catalog import Catalog, Lab
from llmquiz.lab.events import Event, MetricMeasured, Outcome, RunEnded, RunStarted
from llmquiz.lab.inbox import HIGH_WATER
from llmquiz.lab.manifest import Budget
from llmquiz.lab.processes import descendants
from llmquiz.lab.runner import run_blocking, start
from llmquiz.lab.server import launch
from llmquiz.lab.state import RunState

Run = Callable[..., RunState]
FindLab = Callable[[str], Lab]
SHORT = Budget(seconds=0.3, memory_mb=500)


def log_of(state: RunState) -> str:
    assert state.ended is not None
    assert state.ended.log is not None
    return Path(state.ended.log).read_text()


def error_of(state: RunState) -> str:
    assert state.ended is not None
    assert state.ended.error is not None
    assert "\n" not in state.ended.error
    return state.ended.error


def test_a_lab_runs_and_says_all_that_a_lab_can_say(run: Run) -> None:
    state = run("quick", count=3, scale="2", seed=7)

    assert state.outcome is Outcome.OK
    assert state.started is not None
    assert state.started.device == "cpu"
    assert {"python", "llmquiz"} <= state.started.versions.keys()
    assert state.series == {"square": {"ours": [(1, 2), (2, 8), (3, 18)]}}
    assert state.metrics == {"total": 28}
    assert state.tables["squares"].rows == ((1, 2), (2, 8), (3, 18))
    assert state.claims["quadratic"].held
    assert state.notes == ["seed 7"]
    assert state.progress is not None
    assert state.progress.done == 3


def test_the_first_event_is_the_start_and_the_last_the_end(lab: FindLab) -> None:
    events: list[Event] = []

    ended = run_blocking(lab("quick"), {}, events.append)

    assert isinstance(events[0], RunStarted)
    assert events[-1] is ended
    assert [event for event in events if isinstance(event, RunEnded)] == [ended]


@pytest.mark.parametrize(
    ("how", "outcome", "words"),
    [
        ("raise", Outcome.FAILED, "lab crashing: ZeroDivisionError: two lines of text; its log: "),
        ("refuse", Outcome.FAILED, "lab crashing: needs 64 GB and found 2; choose fewer tokens"),
        ("segfault", Outcome.FAILED, "lab crashing died of SIGSEGV before it had a result; its log: "),
        ("exit", Outcome.FAILED, "SystemExit: 3"),
        ("leave", Outcome.FAILED, "exited with status 4"),
        ("undeclared", Outcome.FAILED, "declares no metric 'surprise'"),
        ("nan", Outcome.FAILED, "'got_there' is nan"),
        ("import", Outcome.FAILED, "No module named 'a_module_that_nobody_has'"),
    ],
)
def test_a_crash_ends_the_run_and_what_was_measured_stays(run: Run, how: str, outcome: Outcome, words: str) -> None:
    state = run("crashing", how=how)

    assert state.outcome is outcome
    assert words in error_of(state)
    assert state.metrics == {"got_there": 1.0}


def test_the_traceback_is_in_the_log(run: Run) -> None:
    assert "ZeroDivisionError: two lines\nof text" in log_of(run("crashing"))
    assert "Segmentation fault" in log_of(run("crashing", how="segfault"))


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_lab_that_hangs_is_ended_at_its_time_limit(run: Run, stubborn: bool) -> None:
    state = run("hanging", stubborn=stubborn, budget=SHORT)

    assert state.outcome is Outcome.TIMEOUT
    assert "time budget of 0.3 s; choose smaller parameters or a longer --seconds" in error_of(state)
    assert state.metrics == {"before": 1.0}
    assert state.ended is not None
    assert 0.3 <= state.ended.seconds < 5


@pytest.mark.parametrize("how", ["steady", "at-once", "child"])
def test_a_lab_that_takes_too_much_memory_is_ended(run: Run, how: str) -> None:
    state = run("greedy", how=how)

    assert state.outcome is Outcome.MEMORY
    assert "choose smaller parameters" in error_of(state)
    assert state.ended is not None
    assert state.ended.peak_mb < 1000


def test_what_a_lab_prints_goes_to_its_log(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    state = run("noisy", how="print")

    assert state.metrics == {"count": 1.0}
    assert "a warning of some library" in log_of(state)
    assert "from a shell" in log_of(state)
    assert capfd.readouterr() == ("", "")


def test_nonsense_among_the_events_is_noted(run: Run) -> None:
    state = run("noisy", how="garbage")

    assert state.outcome is Outcome.OK
    assert state.metrics == {"count": 1.0}
    assert state.notes == ["4 lines of the lab were not events, e.g. 'not an event'"]


def test_a_flood_of_events_arrives_in_order_and_progress_is_thinned(lab: FindLab) -> None:
    events: list[Event] = []

    run_blocking(lab("noisy"), {"how": "flood"}, events.append)

    assert [event.value for event in events if isinstance(event, MetricMeasured)] == [*range(5_000), 1.0]
    assert len(events) < 6_000


def test_a_log_that_grows_without_end_is_cut(run: Run) -> None:
    assert len(log_of(run("noisy", how="log"))) < 21 * 2**20


def test_a_broken_claim_breaks_the_run(run: Run) -> None:
    state = run("broken")

    assert state.outcome is Outcome.BROKEN
    assert not state.claims["two-is-three"].held
    assert error_of(state) == "lab broken: did not hold: two-is-three"


def test_a_claim_that_is_never_tested_breaks_the_run_too(run: Run) -> None:
    state = run("broken", test="no")

    assert state.outcome is Outcome.BROKEN
    assert state.notes == ["claims that the lab never tested: two-is-three"]


@pytest.mark.parametrize(
    ("name", "params", "device", "words"),
    [
        ("quick", {}, "cuda", "computes without torch"),
        ("quick", {}, "tpu", "computes without torch"),
    ],
)
def test_a_device_that_the_lab_cannot_use_is_refused(
    run: Run, name: str, params: dict[str, str], device: str, words: str
) -> None:
    state = run(name, device=device, **params)

    assert state.outcome is Outcome.FAILED
    assert words in error_of(state)
    assert state.started is None


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("def walk(): ...\n", "has no function run"),
        ("def run(:\n", "SyntaxError"),
        ("raise RuntimeError('at import')\n", "RuntimeError: at import"),
    ],
)
def test_a_script_that_cannot_be_loaded_fails(write_lab: Callable[..., Path], script: str, words: str) -> None:
    folder = write_lab("mine", 'title = { en = "A" }', script).parent
    state = RunState()

    run_blocking(Catalog([(folder, False)]).find("mine"), {}, state.apply)

    assert state.outcome is Outcome.FAILED
    assert words in error_of(state)


def test_bad_parameters_start_nothing(lab: FindLab) -> None:
    before = descendants(os.getpid())

    with pytest.raises(UsageError, match="lab quick: 'count' must be a whole number from 2 to 100, not '1'"):
        start(lab("quick"), {"count": "1"})

    assert descendants(os.getpid()) == before


def test_missing_packages_start_nothing(write_lab: Callable[..., Path]) -> None:
    folder = write_lab("mine", 'title = { en = "A" }\nneeds = ["a_package_that_is_not"]').parent
    before = descendants(os.getpid())

    with pytest.raises(MissingExtraError, match="lab mine needs a_package_that_is_not"):
        start(Catalog([(folder, False)]).find("mine"), {})

    assert descendants(os.getpid()) == before


def test_no_process_is_left_when_a_run_has_ended(run: Run) -> None:
    before = descendants(os.getpid())

    run("family", wait=False, escape=True)

    assert descendants(os.getpid()) == before


def test_a_file_named_like_a_module_in_the_working_folder_is_not_imported(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('hijacked')")
    (tmp_path / "llmquiz.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)

    assert run("quick").outcome is Outcome.OK


@pytest.mark.slow
def test_running_by_a_new_python_is_the_same(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "launch", functools.partial(launch, spawn=True))

    assert run("quick").metrics == {"total": 30}
    assert run("crashing", how="segfault").outcome is Outcome.FAILED
    assert run("hanging", budget=SHORT).outcome is Outcome.TIMEOUT
    assert "a warning of some library" in log_of(run("noisy", how="print"))


async def test_cancelling_ends_the_run_at_once(lab: FindLab) -> None:
    run = start(lab("hanging"), {})
    seen = []
    async for event in run:
        seen.append(event)
        if isinstance(event, MetricMeasured):
            break

    began = time.monotonic()
    await run.cancel()
    took = time.monotonic() - began

    rest = [event async for event in run]
    assert took < 1.0
    assert rest == [run.ended]
    assert run.ended.outcome is Outcome.CANCELLED
    assert "what it had measured is kept" in str(run.ended.error)


async def test_a_run_can_be_cancelled_while_another_task_follows_it(lab: FindLab) -> None:
    run = start(lab("hanging"), {"stubborn": True})
    state, ready = RunState(), asyncio.Event()

    async def follow() -> None:
        async for event in run:
            state.apply(event)
            if state.metrics:
                ready.set()

    follower = asyncio.create_task(follow())
    await ready.wait()
    await run.cancel()
    await follower

    assert state.outcome is Outcome.CANCELLED


async def test_a_run_can_be_cancelled_before_it_began_and_again_after(lab: FindLab) -> None:
    run = start(lab("hanging"), {})

    await run.cancel()
    await run.cancel()

    assert [event async for event in run][-1] == run.ended
    assert run.ended.outcome is Outcome.CANCELLED


async def test_an_end_is_not_known_before_it_comes(lab: FindLab) -> None:
    run = start(lab("hanging"), {})

    with pytest.raises(LabError, match="still running"):
        _ = run.ended

    await run.cancel()


async def test_runs_go_side_by_side(lab: FindLab) -> None:
    async def metrics(count: int) -> dict[str, float]:
        state = RunState()
        async for event in start(lab("quick"), {"count": count}):
            state.apply(event)
        return state.metrics

    assert await asyncio.gather(metrics(2), metrics(3)) == [{"total": 5}, {"total": 14}]


@pytest.mark.parametrize("count", [2_000, 20_000])
async def test_a_slow_reader_slows_the_lab_and_loses_nothing(lab: FindLab, count: int) -> None:
    """The smaller flood fits into inbox and pipe: its lab has ended before anybody reads on. The larger one waits."""
    run = start(lab("noisy"), {"how": "flood", "count": count})
    values = []
    async for event in run:
        if isinstance(event, MetricMeasured):
            values.append(event.value)
            if len(values) == 1:
                for _ in range(150):
                    await asyncio.sleep(0.002)
                assert len(run._inbox.waiting) < 4 * HIGH_WATER

    assert values == [*range(count), 1.0]
    assert run.ended.outcome is Outcome.OK


def test_what_a_lab_draws_depends_on_the_seed_alone(run: Run) -> None:
    one, same, other = (run("kin", seed=seed).metrics["draw"] for seed in (1, 1, 2))

    assert one == same
    assert one != other


def test_one_absurd_allocation_fails_at_once(run: Run) -> None:
    assert "ran out of memory (an allocation failed)" in error_of(run("greedy", how="at-once"))


def test_a_process_that_left_its_group_is_ended_with_the_run(run: Run, ends: Callable[[int], bool]) -> None:
    state = run("family", wait=False, escape=True)

    assert state.outcome is Outcome.OK
    assert ends(int(state.metrics["child"]))
