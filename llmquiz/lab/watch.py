"""Holding one run to its limits, from its first process to the end of its last."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from types import TracebackType

from llmquiz.lab.events import Outcome
from llmquiz.lab.job import Ending, Job
from llmquiz.lab.processes import LINUX, descendants, end, end_group, resident_bytes

MB = 2**20
CHECK_SECONDS = 0.05 if LINUX else 0.5  # `ps` is dear
GRACE_SECONDS = 0.2  # between SIGTERM and SIGKILL
START_SECONDS = 120.0  # for a lab's imports
CLEANING_SECONDS = 2.0  # for processes that even SIGKILL does not end at once
MAX_LOG_BYTES = 20 * MB


class Watch:
    """Waits for the lab's process, ends it when it must, and sweeps up what it leaves behind.

    Args:
        pid: the lab's process, a child of this one and the leader of its process group.
        control: anything that arrives here, or its closing, ends the run.
        ready: becomes readable when the lab's time starts.
        log: file descriptor of what the lab prints; cut when it grows too long.
    """

    def __init__(self, job: Job, pid: int, control: socket.socket, ready: int, log: int) -> None:
        self._job = job
        self._pid = pid
        self._log = log
        self._ready = ready
        self._stopped: Outcome | None = None
        self._kill_at: float | None = None
        self._began = time.monotonic()
        self._ran = False
        self._deadline = self._began + START_SECONDS
        self._peak = 0
        self._selector = selectors.DefaultSelector()
        self._control = control
        self._selector.register(control, selectors.EVENT_READ, self._cancelled)
        self._selector.register(ready, selectors.EVENT_READ, self._lab_ready)
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, lambda: self._woken.recv(4096))

    def __enter__(self) -> Watch:
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        self._wake.close()
        self._woken.close()
        os.close(self._ready)

    def until_gone(self) -> Ending:
        """Wait until no process of the run is left."""
        while (status := self._reap()) is None:
            for key, _ in self._selector.select(CHECK_SECONDS):
                react: Callable[[], object] = key.data
                react()
            self._check()
        seconds = time.monotonic() - self._began
        self._sweep()
        self._cut_log()
        code = os.waitstatus_to_exitcode(status)
        return Ending(code, self._stopped, seconds, self._ran, self._peak / MB)

    def _reap(self) -> int | None:
        """Collect what has ended, orphans included; the lab's own status once it is among them."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return None
            if pid == self._pid:
                return status
            if pid == 0:
                return None

    def _lab_ready(self) -> None:
        self._selector.unregister(self._ready)
        self._ran = bool(os.read(self._ready, 1))
        if self._ran:
            self._began = time.monotonic()
            self._deadline = self._began + self._job.seconds

    def _cancelled(self) -> None:
        self._selector.unregister(self._control)
        self._stop(Outcome.CANCELLED)

    def _stop(self, why: Outcome, *, at_once: bool = False) -> None:
        if self._stopped is None:
            self._stopped = why
            self._kill_at = time.monotonic() + (0.0 if at_once else GRACE_SECONDS)
            end_group(self._pid, signal.SIGKILL if at_once else signal.SIGTERM)

    def _check(self) -> None:
        now = time.monotonic()
        if self._stopped is None:
            used = resident_bytes(descendants(os.getpid()))
            self._peak = max(self._peak, used)
            if used > self._job.memory_mb * MB:
                self._stop(Outcome.MEMORY, at_once=True)
            elif now > self._deadline:
                self._stop(Outcome.TIMEOUT)
        elif self._kill_at is not None and now > self._kill_at:
            end_group(self._pid, signal.SIGKILL)
        self._cut_log()

    def _cut_log(self) -> None:
        if os.fstat(self._log).st_size > MAX_LOG_BYTES:
            os.ftruncate(self._log, 0)
            os.write(self._log, b"[the log grew too long; what stood before was cut]\n")

    def _sweep(self) -> None:
        """End what the lab started and left behind, in its group or, on Linux, anywhere."""
        end_group(self._pid, signal.SIGKILL)
        give_up = time.monotonic() + CLEANING_SECONDS
        while (left := descendants(os.getpid())) and time.monotonic() < give_up:
            end(left, signal.SIGKILL)
            self._selector.select(0.01)
            self._reap()
