"""What the end of a run means, in one line that says what to do next."""

from __future__ import annotations

import signal
from pathlib import Path

from llmquiz.lab.events import Outcome, RunEnded
from llmquiz.lab.job import Ending, Job


def judge(job: Job, log: Path, ending: Ending | None, verdict: RunEnded | None, *, cancelled: bool) -> RunEnded:
    """The last event of a run.

    Args:
        ending: what the supervisor saw; None if it died or had to be given up.
        verdict: what the lab's process said about itself, if it came to that.
        cancelled: whether the user stopped the run.
    """
    stopped = ending.stopped if ending else Outcome.CANCELLED if cancelled else None
    if verdict is not None and (stopped is None or (ending is not None and ending.exit_code == 0)):
        outcome, error = verdict.outcome, _own_words(job, verdict, log)
    elif stopped is not None:
        outcome, error = stopped, _stopped_words(job, stopped, ending)
    else:
        outcome, error = Outcome.FAILED, f"lab {job.name} {_death(ending)} before it had a result; its log: {log}"
    seconds, peak = (ending.seconds, ending.peak_mb) if ending else (0.0, 0.0)
    return RunEnded(outcome, seconds, error, str(log), peak)


def _own_words(job: Job, verdict: RunEnded, log: Path) -> str | None:
    if verdict.outcome is Outcome.BROKEN:
        return f"lab {job.name}: {verdict.error}"
    return f"lab {job.name}: {verdict.error}; its log: {log}" if verdict.error else None


def _stopped_words(job: Job, stopped: Outcome, ending: Ending | None) -> str:
    if stopped is Outcome.CANCELLED:
        return f"lab {job.name} was cancelled; what it had measured is kept"
    if stopped is Outcome.MEMORY:
        used = f"{ending.peak_mb:.0f} MB in use, " if ending else ""
        return (
            f"lab {job.name} ran past its memory budget ({used}{job.memory_mb} MB allowed); "
            "choose smaller parameters or a larger --memory"
        )
    if ending is not None and not ending.ran:
        return f"lab {job.name} did not begin within {ending.seconds:.0f} s; try again on a quieter machine"
    return (
        f"lab {job.name} ran past its time budget of {job.seconds:g} s; choose smaller parameters or a longer --seconds"
    )


def _death(ending: Ending | None) -> str:
    if ending is None:
        return "lost its supervisor"
    if ending.exit_code >= 0:
        return f"exited with status {ending.exit_code}"
    try:
        return f"died of {signal.Signals(-ending.exit_code).name}"
    except ValueError:
        return f"died of signal {-ending.exit_code}"
