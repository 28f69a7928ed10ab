"""Running a lab: start it, follow its events, stop it.

```python
run = start(lab, {"new_tokens": 256}, device="auto")
async for event in run:
    state.apply(event)          # the last one is always RunEnded
```

The lab computes in a process of its own (`llmquiz.lab.supervisor`). A crash, a hang or a lack of memory there ends the
run, never this process; and the end of this process, however it comes, ends the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Mapping

from llmquiz.core.errors import LabError
from llmquiz.lab.catalog import Lab
from llmquiz.lab.ending import judge
from llmquiz.lab.events import Event, RunEnded
from llmquiz.lab.inbox import Inbox
from llmquiz.lab.job import STOP, Ending, Job
from llmquiz.lab.manifest import Budget
from llmquiz.lab.server import ForkServer, launch, new_log

CANCEL_SECONDS = 0.45  # then the run counts as ended; its supervisor still sees to its processes
SLACK_SECONDS = 180.0  # imports and cleaning, beyond the budget
REAP_SECONDS = 2.0  # for a supervisor that has lost its runner to clean up
READ_BYTES = 2**16


def start(
    lab: Lab,
    params: Mapping[str, object],
    *,
    device: str = "auto",
    seed: int = 0,
    budget: Budget | None = None,
    server: ForkServer | None = None,
) -> LabRun:
    """Start a run and return at once. Needs no running event loop; following the run does.

    Args:
        params: raw text or typed values; those left out take their defaults.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        budget: instead of the manifest's.
        server: a warm process to use if it can take the run.

    Raises:
        MissingExtraError: if packages that the lab needs are not installed; nothing was started.
        UsageError: if a parameter does not fit.
        LabError: where processes cannot be kept in check (Windows).
    """
    lab.require()
    values = lab.manifest.resolve(params)
    if os.name != "posix":
        raise LabError("labs run on Linux and macOS; on Windows, use the Linux subsystem")
    budget = budget or lab.manifest.budget
    job = Job(
        name=lab.name,
        folder=str(lab.folder.resolve()),
        values=values,
        device=device,
        seed=seed,
        seconds=budget.seconds,
        memory_mb=budget.memory_mb,
        cwd=os.getcwd(),  # noqa: PTH109
        needs=lab.manifest.needs,
        metrics=tuple(lab.manifest.metrics),
        claims=tuple(lab.manifest.claims),
    )
    return LabRun(job, server)


def run_blocking(
    lab: Lab,
    params: Mapping[str, object],
    on_event: Callable[[Event], None],
    *,
    device: str = "auto",
    seed: int = 0,
    budget: Budget | None = None,
    server: ForkServer | None = None,
) -> RunEnded:
    """As `start`, for callers without an event loop: `on_event` gets every event, RunEnded last.

    Raises:
        KeyboardInterrupt: after Ctrl+C, once the run has been stopped and its end reported to `on_event`.
    """

    async def relay() -> RunEnded:
        run = start(lab, params, device=device, seed=seed, budget=budget, server=server)
        try:
            async for event in run:
                on_event(event)
        except asyncio.CancelledError:
            await run.cancel()
            async for event in run:
                on_event(event)
            raise
        return run.ended

    return asyncio.run(relay())


class LabRun:
    """A run that was started: iterate over it for its events. It must be iterated to its end or cancelled.

    Attributes:
        job: what runs.
        log: where everything that it prints goes.
    """

    def __init__(self, job: Job, server: ForkServer | None = None) -> None:
        self.job = job
        self.log = new_log(job.name)
        self._inbox = Inbox()
        self._answer = b""
        self._answered = False
        self._closing = False
        self._cancelled = False
        self._ended: RunEnded | None = None
        self._delivered = False
        self._news: asyncio.Event | None = None
        self._give_up = time.monotonic() + job.seconds + SLACK_SECONDS
        warm = server.launch(job, self.log) if server else None
        self._channel = warm or launch(job, self.log)

    @property
    def ended(self) -> RunEnded:
        """How it ended.

        Raises:
            LabError: while it runs.
        """
        if self._ended is None:
            raise LabError(f"lab {self.job.name} is still running; follow its events to their end")
        return self._ended

    def __aiter__(self) -> LabRun:
        return self

    async def __anext__(self) -> Event:
        while not self._inbox.waiting and self._ended is None:
            await self._wait(self._give_up)
        if self._inbox.waiting:
            event = self._inbox.waiting.popleft()
            self._follow()
            return event
        if self._delivered:
            raise StopAsyncIteration
        self._delivered = True
        return self.ended

    async def cancel(self) -> None:
        """Stop the run and wait until its processes are gone. Its last events, RunEnded among them, still come."""
        if self._ended is not None:
            return
        self._cancelled = True
        with contextlib.suppress(OSError):
            self._channel.control.send(STOP)
        give_up = time.monotonic() + CANCEL_SECONDS
        while self._ended is None:
            await self._wait(give_up)

    async def _wait(self, give_up: float) -> None:
        """Wait until something has arrived; close the run once it is over, or at the instant `give_up`."""
        self._news = self._news or asyncio.Event()
        if self._closing or not self._answered:
            self._news.clear()
            self._follow()
            patience = None if self._closing else max(0.0, give_up - time.monotonic())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), patience)
        if self._ended is None and not self._closing and (self._answered or time.monotonic() >= give_up):
            self._closing = True
            try:
                await self._close()
            finally:
                self._closing = False
                self._news.set()

    def _follow(self) -> None:
        """Have the event loop read both channels, but no events while too many wait."""
        if self._answered or self._ended is not None:
            return
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel.control, self._read_answer)
        if self._inbox.full:
            loop.remove_reader(self._channel.events)
        else:
            loop.add_reader(self._channel.events, self._read_events)

    def _read_answer(self) -> None:
        try:
            data = self._channel.control.recv(4096)
        except ConnectionResetError:  # it died with something unread
            data = b""
        self._answer += data
        if not data or data.endswith(b"\n"):
            self._answered = True
            self._unfollow()
        self._wake()

    def _read_events(self) -> None:
        data = os.read(self._channel.events, READ_BYTES)
        self._inbox.feed(data)
        if not data or self._inbox.full:
            asyncio.get_running_loop().remove_reader(self._channel.events)
        self._wake()

    def _wake(self) -> None:
        if self._news is not None:
            self._news.set()

    def _unfollow(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._channel.control)
        loop.remove_reader(self._channel.events)

    async def _close(self) -> None:
        """Read what is left and say how the run ended; or start again if a warm server died under it."""
        self._unfollow()
        self._drain()
        channel, ending = self._channel, Ending.decode(self._answer) if self._answer.endswith(b"\n") else None
        channel.close()
        if channel.own is None and ending is None and self._inbox.silent and not self._cancelled:
            self._answered, self._answer = False, b""
            self._channel = launch(self.job, self.log)
            return
        self._inbox.close()
        self._ended = judge(self.job, self.log, ending, self._inbox.verdict, cancelled=self._cancelled)
        if channel.own is not None:
            await _reap(channel.own)

    def _drain(self) -> None:
        """Take in what the pipe still holds; it has no writer that could fill it again."""
        os.set_blocking(self._channel.events, False)
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._channel.events, READ_BYTES):
                self._inbox.feed(data)


async def _reap(process: subprocess.Popen[bytes]) -> None:
    """Wait for a supervisor that has nothing left to do; end one that does not go."""
    give_up = time.monotonic() + REAP_SECONDS
    while process.poll() is None:
        if time.monotonic() > give_up:
            process.kill()
        await asyncio.sleep(0.002)
