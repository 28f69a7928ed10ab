"""What arrives on the pipe of a lab: bytes in, a bounded queue of events out, whatever the lab sends."""

from __future__ import annotations

from collections import deque

from llmquiz.lab.events import Event, Noted, Progressed, RunEnded, decode

MAX_LINE = 2**20
MAX_EVENTS = 50_000  # of a run
HIGH_WATER = 1_000  # waiting events above which reading should pause


class Inbox:
    """Splits lines, folds progress that nobody has looked at yet, counts what it must drop.

    Attributes:
        waiting: events that nobody has taken yet.
        verdict: what the lab's process said about its own end; None until then.
    """

    def __init__(self) -> None:
        self.waiting: deque[Event] = deque()
        self.verdict: RunEnded | None = None
        self._rest = b""
        self._skipping = False
        self._taken = 0
        self._dropped = 0
        self._malformed = 0
        self._example = ""

    @property
    def full(self) -> bool:
        """Whether reading should pause until somebody takes what waits; the pipe then slows the lab down."""
        return len(self.waiting) >= HIGH_WATER

    @property
    def silent(self) -> bool:
        """Whether the lab has said nothing at all."""
        return not (self._taken or self._malformed or self.verdict)

    def feed(self, data: bytes) -> None:
        """Take in what was read."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if self._skipping:
                self._skipping = False
            elif line:
                self._take(line.decode("utf-8", "replace"))
        if len(self._rest) > MAX_LINE:
            self._malformed += not self._skipping
            self._skipping, self._rest = True, b""

    def close(self) -> None:
        """No more will be read: say what was lost."""
        if self._malformed:
            example = f", e.g. {self._example!r}" if self._example else ""
            self.waiting.append(Noted(f"{self._malformed} lines of the lab were not events{example}"))
        if self._dropped:
            self.waiting.append(Noted(f"{self._dropped} events were dropped: a run has room for {MAX_EVENTS}"))

    def _take(self, line: str) -> None:
        try:
            event = decode(line)
        except ValueError:
            self._malformed += 1
            self._example = self._example or "".join(char for char in line[:40] if char.isprintable())
            return
        if isinstance(event, RunEnded):
            self.verdict = event
        elif isinstance(event, Progressed) and self.waiting and isinstance(self.waiting[-1], Progressed):
            self.waiting[-1] = event
        elif self._taken >= MAX_EVENTS:
            self._dropped += 1
        else:
            self._taken += 1
            self.waiting.append(event)
