"""Starting supervisors, and keeping one warm.

Importing torch and transformers takes seconds. `ForkServer` keeps a supervisor that has imported them: a run forks it
and begins at once. Without one, or while it is busy, a run starts its own; the rest of the way is the same.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from llmquiz import locations
from llmquiz.lab.job import Job
from llmquiz.lab.processes import LINUX
from llmquiz.lab.supervisor import SPAWN, python_command

_ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
STOPPING_SECONDS = 2.0
KEPT_LOGS = 30


@dataclass(slots=True)
class Channel:
    """The runner's ends of one run: a socket to its supervisor and the pipe of the events.

    Attributes:
        own: the supervisor, if it serves this run alone; then it must be reaped.
    """

    control: socket.socket
    events: int
    own: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """Close both; a run that still goes on is ended by this."""
        self.control.close()
        if self.events >= 0:
            os.close(self.events)
            self.events = -1


def launch(job: Job, log: Path, *, spawn: bool = SPAWN) -> Channel:
    """Start a supervisor for this run alone."""
    process, jobs = _start_supervisor((), log, spawn)
    with jobs:
        channel = _submit(jobs, job, log)
    channel.own = process
    return channel


class ForkServer:
    """A supervisor that has imported what labs need. It ends with this process, however that ends.

    Args:
        modules: what to import; those that are not installed are left out.
    """

    def __init__(self, modules: Iterable[str] = ("torch",)) -> None:
        self._modules = tuple(modules)
        self._process: subprocess.Popen[bytes] | None = None
        self._jobs: socket.socket | None = None
        self._ready = False
        self._channel: Channel | None = None

    def start(self) -> None:
        """Start it and return at once; it imports in the background. Does nothing where forking is not safe."""
        if LINUX and not self.alive:
            self.stop()
            installed = [name for name in self._modules if find_spec(name.partition(".")[0])]
            log = _log_folder() / "server.log"
            log.unlink(missing_ok=True)
            self._process, self._jobs = _start_supervisor(installed, log, spawn=False)

    def stop(self) -> None:
        """End it, and the run that it may be serving."""
        if self._jobs is not None:
            self._jobs.close()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05 if self._ready else 0)
            self._process.kill()
            self._process.wait(STOPPING_SECONDS)
        self._process = self._jobs = self._channel = None
        self._ready = False

    def __enter__(self) -> ForkServer:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """Its process; None while there is none."""
        return self._process.pid if self._process else None

    @property
    def alive(self) -> bool:
        """Whether its process runs, be it still importing."""
        return self._process is not None and self._process.poll() is None

    @property
    def ready(self) -> bool:
        """Whether it has imported everything."""
        if not self._ready and self._jobs is not None and self.alive:
            with contextlib.suppress(BlockingIOError):
                self._ready = bool(self._jobs.recv(1, socket.MSG_DONTWAIT))
        return self._ready and self.alive

    @property
    def busy(self) -> bool:
        """Whether a run is going on; it serves one at a time."""
        return self._channel is not None and self._channel.events >= 0

    def launch(self, job: Job, log: Path) -> Channel | None:
        """Hand over a run; None if it cannot take one now."""
        if self._jobs is None or self.busy or not self.alive:
            return None
        try:
            self._channel = _submit(self._jobs, job, log)
        except OSError:  # it has just died
            return None
        return self._channel


def new_log(name: str) -> Path:
    """A fresh file for what a run prints; the oldest ones go."""
    folder = _log_folder()
    for old in sorted(folder.glob("*-*.log"))[: -KEPT_LOGS + 1]:
        old.unlink(missing_ok=True)
    began = time.strftime("%Y%m%d-%H%M%S")
    descriptor, path = tempfile.mkstemp(prefix=f"{began}-{name}-", suffix=".log", dir=folder)
    os.close(descriptor)
    return Path(path)


def _log_folder() -> Path:
    folder = locations.log_dir() / "labs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _start_supervisor(modules: Iterable[str], log: Path, spawn: bool) -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair()
    command = python_command("supervisor", theirs.fileno(), "spawn" if spawn else "fork", *modules)
    with theirs, log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
            env={**os.environ, **_ENVIRONMENT},
        )
    return process, ours


def _submit(jobs: socket.socket, job: Job, log: Path) -> Channel:
    control, theirs = socket.socketpair()
    events, sink = os.pipe()
    with theirs, log.open("ab") as output:
        try:
            socket.send_fds(jobs, [b"j"], [theirs.fileno(), sink, output.fileno()])
            control.sendall(job.encode())
        except OSError:
            control.close()
            os.close(events)
            raise
        finally:
            os.close(sink)
    return Channel(control, events)
