"""A warm process serves runs one after another; without it a run starts cold, and nobody notices."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from llmquiz.lab.catalog import Lab
from llmquiz.lab.events import MetricMeasured, Outcome
from llmquiz.lab.manifest import Budget
from llmquiz.lab.processes import LINUX
from llmquiz.lab.runner import start
from llmquiz.lab.server import ForkServer
from llmquiz.lab.state import RunState

pytestmark = pytest.mark.skipif(not LINUX, reason="forking a process that has imported libraries is for Linux")

Run = Callable[..., RunState]
FindLab = Callable[[str], Lab]


@pytest.fixture
def server() -> Iterator[ForkServer]:
    with ForkServer(("colorsys", "a_package_that_is_not")) as server:
        yield server


def test_runs_fork_the_warm_process(run: Run, server: ForkServer) -> None:
    first, second = run("kin", server=server), run("kin", server=server)

    assert first.metrics["parent"] == second.metrics["parent"] == server.pid
    assert first.metrics["preloaded"] == 1
    assert first.metrics["pid"] != second.metrics["pid"]
    assert server.ready


def test_a_cold_run_has_a_process_of_its_own(run: Run, server: ForkServer) -> None:
    state = run("kin")

    assert state.metrics["parent"] != server.pid
    assert state.metrics["preloaded"] == 0


def test_limits_hold_in_the_warm_process_and_it_survives_them(run: Run, server: ForkServer) -> None:
    assert run("hanging", stubborn=True, budget=Budget(0.2, 500), server=server).outcome is Outcome.TIMEOUT
    assert run("greedy", how="child", server=server).outcome is Outcome.MEMORY
    assert run("crashing", how="segfault", server=server).outcome is Outcome.FAILED
    assert run("family", wait=False, escape=True, server=server).outcome is Outcome.OK
    assert run("kin", server=server).metrics["parent"] == server.pid


def test_a_dead_server_is_replaced_by_a_cold_run(run: Run, server: ForkServer, ends: Callable[[int], bool]) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    assert ends(server.pid)

    state = run("kin", server=server)

    assert state.outcome is Outcome.OK
    assert not server.alive


async def test_a_server_that_dies_with_the_run_in_hand_is_replaced(lab: FindLab, server: ForkServer) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)  # it cannot take the run up
    run = start(lab("kin"), {}, server=server)
    os.kill(server.pid, signal.SIGKILL)
    state = RunState.of([event async for event in run])

    assert state.outcome is Outcome.OK
    assert state.metrics["preloaded"] == 0


async def test_a_server_that_dies_in_the_middle_takes_the_run_with_it(
    lab: FindLab, server: ForkServer, ends: Callable[[int], bool]
) -> None:
    run = start(lab("kin"), {"wait": True}, server=server)
    state = RunState()
    async for event in run:
        state.apply(event)
        if isinstance(event, MetricMeasured) and event.name == "pid":
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)

    assert state.outcome is Outcome.FAILED
    assert state.ended is not None
    assert "lost its supervisor" in str(state.ended.error)
    assert ends(int(state.metrics["pid"]))


async def test_a_busy_server_leaves_the_second_run_to_a_cold_process(lab: FindLab, server: ForkServer) -> None:
    async def until_known(params: dict[str, object]) -> tuple[float, object]:
        run = start(lab("kin"), params, server=server)
        async for event in run:
            if isinstance(event, MetricMeasured) and event.name == "parent":
                return event.value, run
        raise AssertionError("the lab said nothing")

    (first, waiting), (second, done) = await asyncio.gather(until_known({"wait": True}), until_known({}))

    assert first == server.pid
    assert second != server.pid
    for run in (waiting, done):
        await run.cancel()


async def test_a_run_is_cancelled_while_the_server_still_imports(lab: FindLab) -> None:
    with ForkServer(("colorsys",)) as server:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)  # as one that imports for long
        run = start(lab("kin"), {}, server=server)

        await run.cancel()

        assert run.ended.outcome is Outcome.CANCELLED
        os.kill(server.pid, signal.SIGCONT)


def test_stopping_ends_the_process_and_a_stopped_one_serves_nobody(
    run: Run, server: ForkServer, ends: Callable[[int], bool]
) -> None:
    pid = server.pid
    server.stop()

    assert pid is not None
    assert ends(pid)
    assert server.pid is None
    assert run("kin", server=server).outcome is Outcome.OK


def test_a_module_that_cannot_be_imported_costs_the_server_and_no_run(run: Run) -> None:
    with ForkServer(("this_is_not.here", "antigravity.not_a_package")) as server:
        assert run("quick", server=server).outcome is Outcome.OK
