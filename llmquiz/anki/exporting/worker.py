"""A second process that calls a function on one task after the other, while this one goes on with its own work.

It is a fresh interpreter: a fork would copy locks that threads of ours hold, and `multiprocessing` would run the main
module once more. Tasks and results lie in files, for a pipe holds 64 KiB and then stops one side until the other reads.
The pipe only says that there is a task; its end says that this process has ended, however that came about.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import llmquiz

Task = TypeVar("Task")
Result = TypeVar("Result")

_START = (
    "import sys; sys.path[:] = sys.argv[4:]; from llmquiz.anki.exporting.worker import serve; serve(*sys.argv[1:4])"
)


class WorkerError(Exception):
    """The second process is gone, or never was."""


def cores() -> int:
    """Of the processor, as many as this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Worker(Generic[Task, Result]):
    """A second process with a function of a module; `close` it, whatever happens.

    Attributes:
        pending: tasks that were given and of which no result was taken.

    Raises:
        WorkerError: by each method, if the process cannot be started, or has died.
    """

    def __init__(self, function: Callable[[Task], Result]) -> None:
        import subprocess  # only a large export needs them
        import tempfile

        if not sys.executable or getattr(sys, "frozen", False):
            raise WorkerError("no interpreter to start")
        paths = [str(Path(llmquiz.__file__).parent.parent), *filter(None, sys.path)]
        where = function.__module__, function.__name__
        self.pending = self._given = 0
        with ExitStack() as failed, _translated():
            self._folder = failed.enter_context(
                tempfile.TemporaryDirectory(prefix="llmquiz-", ignore_cleanup_errors=True)
            )
            self._process = subprocess.Popen(
                [sys.executable, "-IS", "-c", _START, self._folder, *where, *paths],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
            self._files = failed.pop_all()

    def give(self, task: Task) -> None:
        """Put `task` behind those that wait."""
        assert self._process.stdin
        with _translated():
            Path(self._folder, f"task{self._given}").write_bytes(pickle.dumps(task))
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        self._given += 1
        self.pending += 1

    def ready(self) -> bool:
        """Whether the oldest pending task is done."""
        ended = self._process.poll()
        if self._oldest().exists():
            return True
        if ended is not None:
            raise WorkerError(f"ended with {ended}")
        return False

    def take(self) -> Result:
        """The result of the oldest pending task, which is `ready`."""
        with _translated():
            result: Result = pickle.loads(_moved(self._oldest()))
        self.pending -= 1
        return result

    def close(self) -> None:
        """End the process and remove its files."""
        self._process.kill()
        self._process.communicate()
        self._files.close()

    def _oldest(self) -> Path:
        return Path(self._folder, f"result{self._given - self.pending}")


def serve(folder: str, module: str, name: str) -> None:
    """What the second process does: a task for each line of its standard input, until that ends."""
    import signal
    from importlib import import_module

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the first process, which then ends this one
    function: Callable[[Any], Any] = getattr(import_module(module), name)
    for number, _ in enumerate(sys.stdin.buffer):
        result = pickle.dumps(function(pickle.loads(_moved(Path(folder, f"task{number}")))))
        unfinished = Path(folder, "unfinished")
        unfinished.write_bytes(result)
        unfinished.replace(Path(folder, f"result{number}"))
    for path in Path(folder).iterdir():
        path.unlink()
    Path(folder).rmdir()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WorkerError(str(error)) from error


def _moved(path: Path) -> bytes:
    content = path.read_bytes()
    path.unlink()
    return content
