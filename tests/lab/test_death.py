"""However this side dies, nothing of a run is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llmquiz.lab.events import MetricMeasured
from llmquiz.lab.processes import LINUX
from llmquiz.lab.runner import start

Ends = Callable[[int], bool]
FIXTURES = Path(__file__).parent / "fixtures"

FOLLOW = f"""
import sys
from pathlib import Path
from llmquiz.lab.catalog import Catalog
from llmquiz.lab.events import MetricMeasured
from llmquiz.lab.runner import run_blocking
from llmquiz.lab.server import ForkServer

def show(event):
    if isinstance(event, MetricMeasured):
        print(event.name, int(event.value), flush=True)

name, *params = sys.argv[1:]
server = ForkServer(()) if "warm" in params else None
if server:
    server.start()
    print("server", server.pid, flush=True)
lab = Catalog([(Path({str(FIXTURES)!r}), True)]).find(name)
run_blocking(lab, {{key: "yes" for key in params if key in lab.manifest.params}}, show, server=server)
"""


@contextmanager
def follower(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, int]]]:
    """A process that follows a run, and the pids that it has told: as many lines as the lab has metrics."""
    lines = (4 if arguments[0] == "kin" else 1) + ("warm" in arguments)
    with subprocess.Popen([sys.executable, "-c", FOLLOW, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [process.stdout.readline().split() for _ in range(lines)]
        try:
            yield process, {name: int(value) for name, value in told}
        finally:
            process.kill()


@pytest.mark.parametrize("warm", [(), ("warm",)])
def test_a_run_ends_when_its_parent_is_killed(ends: Ends, warm: tuple[str, ...]) -> None:
    with follower("kin", "wait", *warm) as (process, told):
        process.send_signal(signal.SIGKILL)

        assert ends(told["pid"])
        assert ends(told["parent"])


@pytest.mark.parametrize("escape", [(), ("escape",)])
def test_grandchildren_end_with_the_run(ends: Ends, escape: tuple[str, ...]) -> None:
    if escape and not LINUX:
        pytest.skip("only Linux finds processes that left their group")
    with follower("family", "wait", *escape) as (process, told):
        process.send_signal(signal.SIGKILL)

        assert ends(told["child"])


def test_an_interrupt_ends_the_run(ends: Ends) -> None:
    with follower("kin", "wait") as (process, told):
        process.send_signal(signal.SIGINT)

        assert process.wait(10) != 0
        assert ends(told["pid"])


def test_an_idle_server_ends_with_its_parent(ends: Ends) -> None:
    code = (
        "from llmquiz.lab.server import ForkServer\n"
        "server = ForkServer(()); server.start(); print(server.pid, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()

        assert ends(pid)


@pytest.mark.skipif(not LINUX, reason="the kernel does this on Linux")
async def test_a_lab_ends_when_its_supervisor_is_killed(lab: Callable[..., object], ends: Ends) -> None:
    run = start(lab("kin"), {"wait": True})
    told = {}
    async for event in run:
        if isinstance(event, MetricMeasured):
            told[event.name] = int(event.value)
        if isinstance(event, MetricMeasured) and event.name == "pid":
            os.kill(told["parent"], signal.SIGKILL)

    assert ends(told["pid"])
    assert "lost its supervisor" in str(run.ended.error)


def test_a_process_that_follows_its_parent_ends_with_it_anywhere(ends: Ends) -> None:
    child = "from llmquiz.lab.processes import follow_parent; follow_parent(0.01); print(flush=True); input()"
    parent = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=-1, stdin=-1, start_new_session=True)\n"
        "child.stdout.readline(); print(child.pid, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()

        assert ends(pid)
