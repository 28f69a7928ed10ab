"""The lab's own process: loads `lab.py`, calls its `run`, and turns whatever happens into a verdict.

Standard output and error go to the log; events have a pipe of their own, so a library that prints disturbs nothing.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import importlib.util
import os
import random
import resource
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import llmquiz
from llmquiz.core.errors import LabError
from llmquiz.lab.events import Event, Outcome, RunEnded, RunStarted, encode
from llmquiz.lab.job import Job
from llmquiz.lab.processes import LINUX, follow_parent
from llmquiz.lab.sdk import Params, Report, device_name, pick_device

SCRIPT = "lab.py"
MB = 2**20
HEADROOM_MB = 4096  # thread stacks and arenas that are reserved, not used
MAX_ERROR = 300


def main(job: Job, events: int, ready: int) -> NoReturn:
    """Run the job and end this process.

    Args:
        events: where the events go, a file descriptor.
        ready: gets one byte when the lab's `run` is about to be called: its time starts.
    """
    faulthandler.enable()
    if not LINUX:
        follow_parent()
    emit = emitter(events)
    report = Report(emit, job.metrics, job.claims)
    with Verdict(report) as verdict:
        run, params = prepare(job, emit)
        os.write(ready, b"1")
        run(params, report)
    emit(RunEnded(verdict.outcome, 0.0, verdict.error))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(0)  # a forked process must not run the exit handlers of the one that it came from


def emitter(descriptor: int) -> Callable[[Event], None]:
    """What writes events to a pipe; threads may share it."""
    lock = threading.Lock()

    def emit(event: Event) -> None:
        line = encode(event).encode("utf-8", "replace") + b"\n"
        with lock:
            while line:
                line = line[os.write(descriptor, line) :]

    return emit


def prepare(job: Job, emit: Callable[[Event], None]) -> tuple[Callable[[Params, Report], object], Params]:
    """Import the lab, choose its device, seed what it may draw from, and say that it starts."""
    os.chdir(job.cwd)
    run = load_run(Path(job.folder) / SCRIPT, job.name)
    device = pick_device(job.device) if "torch" in job.needs else _without_torch(job.device)
    limit_memory(job.memory_mb, device)
    seed_all(job.seed)
    emit(RunStarted(device, versions(job.needs), device_name(device)))
    return run, Params(job.values, device=device, seed=job.seed)


def load_run(script: Path, name: str) -> Callable[[Params, Report], object]:
    """The `run` of a lab's script, which may import modules beside it (``from .bandit import ...``).

    Raises:
        LabError: if the script has none.
    """
    module_name = f"llmquiz_lab_{name.replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(module_name, script, submodule_search_locations=[str(script.parent)])
    if spec is None or spec.loader is None:
        raise LabError(f"{script}: cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up
    sys.dont_write_bytecode = True
    spec.loader.exec_module(module)
    run: Any = getattr(module, "run", None)
    if not callable(run):
        raise LabError(f"{script}: has no function run(params, report); write one")
    return run  # type: ignore[no-any-return]


def limit_memory(megabytes: int, device: str) -> None:
    """Make a single absurd allocation fail at once, and write no core files.

    The supervisor watches what is really used. CUDA reserves address space freely and is left alone.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if LINUX and device == "cpu":
        limit = (2 * megabytes + HEADROOM_MB) * MB
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def seed_all(seed: int) -> None:
    """Seed Python, and numpy and torch where the lab has imported them."""
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def versions(modules: Iterable[str]) -> dict[str, str]:
    """Versions of Python, llmquiz and the packages that the lab needs."""
    found = {"python": sys.version.split()[0], "llmquiz": llmquiz.__version__}
    for module in modules:
        with contextlib.suppress(PackageNotFoundError):
            found[module] = version(module)
    return found


class Verdict:
    """Catches whatever a lab does and says what it means; the traceback goes to the log."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.outcome = Outcome.FAILED
        self.error: str | None = None

    def __enter__(self) -> Verdict:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            self._finished()
        else:
            traceback.print_exception(error)
            self.outcome = Outcome.MEMORY if _out_of_memory(error) else Outcome.FAILED
            self.error = _in_words(error)
        return True

    def _finished(self) -> None:
        self.outcome = Outcome.OK
        if broken := self._report.broken:
            self.outcome, self.error = Outcome.BROKEN, f"did not hold: {', '.join(broken)}"
        if untested := self._report.untested:
            self.outcome, self.error = Outcome.BROKEN, f"never tested, so not proven: {', '.join(untested)}"
            self._report.note(f"claims that the lab never tested: {', '.join(untested)}")


def _without_torch(device: str) -> str:
    if device not in ("auto", "cpu"):
        raise LabError(f"this lab computes without torch, so there is no {device}; use --device cpu")
    return "cpu"


def _told(error: BaseException) -> bool:
    """Whether its message was written for the reader; the LLM library has errors of its own, known by their name."""
    return isinstance(error, LabError) or "ModelError" in {cls.__name__ for cls in type(error).__mro__}


def _out_of_memory(error: BaseException) -> bool:
    names = {cls.__name__ for cls in type(error).__mro__}
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or "can't allocate memory" in str(error)


def _in_words(error: BaseException) -> str:
    text = " ".join(str(error).split())[:MAX_ERROR]
    if _told(error):
        return text
    if _out_of_memory(error):
        return f"ran out of memory ({text or 'an allocation failed'}); choose smaller parameters"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"no space left on the device ({text}); free some, or set TMPDIR to a folder with room"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def start(arguments: list[str]) -> NoReturn:
    """Entry of a new process: file descriptors of the job, the events and the ready pipe."""
    source, events, ready = map(int, arguments)
    with open(source, "rb") as file:  # noqa: PTH123
        job = Job.decode(file.read())
    main(job, events, ready)
