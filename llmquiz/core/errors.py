"""One tree of errors; each knows its exit code and reads as one line: where, what, what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """What the process tells its caller."""

    OK = 0
    FINDINGS = 1
    USAGE = 2
    MISSING_EXTRA = 3
    INTERNAL = 70
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file (1-based) that a message points at."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


class LlmquizError(Exception):
    """Anything that a user can understand and mend. ``str(error)`` is the whole message, one lower-case line."""

    exit_code: ExitCode = ExitCode.FINDINGS


class UsageError(LlmquizError):
    """The command line asks for something that does not exist or does not fit."""

    exit_code = ExitCode.USAGE


class SettingsError(LlmquizError):
    """The settings file cannot be used."""

    exit_code = ExitCode.USAGE


class DeckError(LlmquizError):
    """A deck that cannot be read. The message starts with its place."""

    def __init__(self, place: Place, problem: str) -> None:
        super().__init__(f"{place}: {problem}")
        self.place = place
        self.problem = problem


class StoreError(LlmquizError):
    """The database cannot be opened, read or written."""


class ScheduleError(LlmquizError):
    """Scheduling options or a schedule outside their ranges."""


class ExportError(LlmquizError):
    """An export that cannot be written."""


class ImportFileError(LlmquizError):
    """A file of another program, or of another llmquiz, that cannot be imported. Nothing was changed."""


class LabError(LlmquizError):
    """A lab that cannot start, or that ended without a result."""


class ManifestError(LabError):
    """A lab.toml that cannot be used."""


class MissingExtraError(LabError):
    """A lab needs packages that are not installed."""

    exit_code = ExitCode.MISSING_EXTRA
