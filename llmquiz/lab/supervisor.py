"""The process between llmquiz and a lab: starts the lab, holds it to its limits, leaves none of its processes behind.

It may import what labs need before it is asked to run one (`llmquiz.lab.server`), and forks for each run. It has one
thread and computes nothing, so forking it is safe: no library has started threads or touched a GPU. Where fork alone is
not safe (macOS), the forked process executes Python anew.

It outlives a parent that is killed just long enough to end the run: the closing of the control socket tells it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn

from llmquiz.lab import child
from llmquiz.lab.job import READY, Job
from llmquiz.lab.processes import LINUX, adopt_orphans, die_with_parent
from llmquiz.lab.watch import Watch

SPAWN = not LINUX


def main(jobs: int, modules: list[str], *, spawn: bool = SPAWN) -> NoReturn:
    """Import `modules`, then run the jobs that come over the socket `jobs` until it closes."""
    adopt_orphans()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in modules:
        importlib.import_module(name)
    inbox = socket.socket(fileno=jobs)
    with contextlib.suppress(BrokenPipeError):
        inbox.send(READY)
    while delivery := _receive(inbox):
        control, events, log = delivery
        with socket.socket(fileno=control) as line:
            if job := _read_job(line):
                _run(job, line, events, log, inbox, spawn)
        os.close(events)
        os.close(log)
    os._exit(0)


def _receive(inbox: socket.socket) -> tuple[int, int, int] | None:
    data, descriptors, _, _ = socket.recv_fds(inbox, 1, 3)
    if not data:
        return None
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    control, events, log = descriptors
    return control, events, log


def _read_job(control: socket.socket) -> Job | None:
    """The job; None if whoever wanted it has gone or has stopped it already."""
    received = b""
    while b"\n" not in received:
        data = control.recv(65536)
        if not data:
            return None
        received += data
    line, _, stop = received.partition(b"\n")
    return None if stop else Job.decode(line)


def _run(job: Job, control: socket.socket, events: int, log: int, inbox: socket.socket, spawn: bool) -> None:
    ready, its_ready = os.pipe()
    supervisor = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        inbox.close()
        control.close()
        os.close(ready)
        _become_lab(job, events, its_ready, log, supervisor, spawn)
    os.close(its_ready)
    with Watch(job, pid, control, ready, log) as watch, contextlib.suppress(OSError):
        control.sendall(watch.until_gone().encode())


def _become_lab(job: Job, events: int, ready: int, log: int, supervisor: int, spawn: bool) -> NoReturn:
    """In the forked process: a session of its own, the log for all output, then the lab."""
    os.setsid()
    die_with_parent()
    if os.getppid() != supervisor:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    if spawn:
        _execute(job, events, ready)
    child.main(job, events, ready)


def _execute(job: Job, events: int, ready: int) -> NoReturn:
    """Replace this process by a fresh Python that runs the job, which waits for it in a pipe."""
    source, sink = os.pipe()
    os.write(sink, job.encode())
    os.close(sink)
    for descriptor in (source, events, ready):
        os.set_inheritable(descriptor, True)
    os.execv(sys.executable, python_command("child", source, events, ready))


def python_command(module: str, *arguments: object) -> list[str]:
    """The command that runs `llmquiz.lab.<module>.start(*arguments)` in a new Python.

    The working directory stays off the import path (-P): a file called `torch.py` there must not be taken for torch.
    """
    root = str(Path(__file__).parents[2])
    code = f"import sys; sys.path.append({root!r}); from llmquiz.lab.{module} import start; start(sys.argv[1:])"
    return [sys.executable, "-P", "-u", "-c", code, *map(str, arguments)]


def start(arguments: list[str]) -> NoReturn:
    """Entry of a new process: socket, ``fork`` or ``spawn``, modules to import."""
    main(int(arguments[0]), arguments[2:], spawn=arguments[1] == "spawn")
