"""What runner and supervisor tell each other: a job one way, its start and its end the other; one line of JSON each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from llmquiz.lab.events import Outcome
from llmquiz.lab.parameter import ParamValue

STOP = b"s"  # to the supervisor: end the run; closing the socket says the same
READY = b"r"  # from a supervisor that has imported what it should


@dataclass(frozen=True, slots=True)
class Job:
    """One run: `folder` holds `lab.py`; `metrics` and `claims` are names that it may report; `cwd` is the user's."""

    name: str
    folder: str
    values: Mapping[str, ParamValue]
    device: str
    seed: int
    seconds: float
    memory_mb: int
    cwd: str
    needs: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """The job as a line."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Job:
        """The job that `line` holds."""
        fields: dict[str, Any] = json.loads(line)
        fields.update({name: tuple(fields[name]) for name in ("needs", "metrics", "claims")})
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Ending:
    """How the process of a lab ended.

    Attributes:
        exit_code: its status; negative for the signal that killed it.
        stopped: why the supervisor ended it (cancelled, timeout or memory); None if it ended by itself.
        seconds: wall time since the lab's `run` was called, or since the process began if it never was.
        ran: whether `run` was called.
        peak_mb: the most memory in use by the lab and its processes (2^20 bytes).
    """

    exit_code: int
    stopped: Outcome | None
    seconds: float
    ran: bool
    peak_mb: float

    def encode(self) -> bytes:
        """The ending as a line."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Ending:
        """The ending that `line` holds."""
        fields = json.loads(line)
        stopped = fields.pop("stopped")
        return cls(stopped=Outcome(stopped) if stopped else None, **fields)
