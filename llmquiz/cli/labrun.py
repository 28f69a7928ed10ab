"""Running a lab from the command line: shown live or in lines, printed as JSON or events, and kept."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmquiz.core.errors import ExitCode, LabError, UsageError
from llmquiz.lab.events import Event, Outcome, RunEnded, encode
from llmquiz.lab.manifest import Budget
from llmquiz.lab.record import to_record
from llmquiz.lab.runner import run_blocking
from llmquiz.lab.state import RunState

if TYPE_CHECKING:
    from llmquiz.core.card import Lang
    from llmquiz.lab.catalog import Lab
    from llmquiz.lab.parameter import ParamValue
    from llmquiz.store.records import RunRecord

MAX_SECONDS = 86_400.0
MIN_MB, MAX_MB = 1, 2**24


@dataclass(frozen=True, slots=True)
class Wanted:
    """How to run and how to show it.

    `seconds` and `memory` (MB) replace the manifest's limits; at most one of `as_json` and `events` is wanted.
    """

    lang: Lang
    device: str = "auto"
    seed: int = 0
    seconds: float | None = None
    memory: int | None = None
    as_json: bool = False
    events: bool = False
    save: bool = True

    def budget(self, lab: Lab) -> Budget:
        """What the run may use.

        Raises:
            UsageError: if the options contradict each other or are out of range.
        """
        if self.as_json and self.events:
            raise UsageError("--json and --events both want stdout; choose one")
        usual = lab.manifest.budget
        budget = Budget(
            usual.seconds if self.seconds is None else self.seconds,
            usual.memory_mb if self.memory is None else self.memory,
        )
        if not 0 < budget.seconds <= MAX_SECONDS:
            raise UsageError(f"--seconds must be above 0 and at most {MAX_SECONDS:g}, not {budget.seconds:g}")
        if not MIN_MB <= budget.memory_mb <= MAX_MB:
            raise UsageError(f"--memory must be {MIN_MB} to {MAX_MB} MB, not {budget.memory_mb}")
        return budget


def run_lab(lab: Lab, params: dict[str, ParamValue], wanted: Wanted) -> int:
    """Run a lab, show it and keep it; the exit code says whether every claim held.

    Raises:
        LabError: if it did not come to its end; MissingExtraError if it cannot run here.
        KeyboardInterrupt: after Ctrl+C; what had been measured is kept.
    """
    budget = wanted.budget(lab)
    state, started_at = RunState(), time.time()
    try:
        ended = _follow(lab, params, state, wanted, budget)
    finally:
        if state.ended is not None:
            record = to_record(lab, params, state, started_at=started_at)
            _show(lab, state, record, wanted)
            if wanted.save:
                _keep(record)
    if ended.outcome not in (Outcome.OK, Outcome.BROKEN):
        raise LabError(ended.error or f"lab {lab.name} failed")
    return ExitCode.OK if ended.outcome is Outcome.OK else ExitCode.FINDINGS


def _follow(lab: Lab, params: dict[str, ParamValue], state: RunState, wanted: Wanted, budget: Budget) -> RunEnded:
    from rich.console import Console

    from llmquiz.lab.view import LineView, LiveView

    console = Console(highlight=False)
    live = console.is_terminal and not (wanted.as_json or wanted.events)
    view = (
        LiveView(console, lab.manifest, state, wanted.lang) if live else LineView(Console(stderr=True, highlight=False))
    )

    def on_event(event: Event) -> None:
        state.apply(event)
        if wanted.events:
            print(encode(event), flush=True)
        elif not wanted.as_json:
            view.show(event)

    with view if isinstance(view, LiveView) else nullcontext():
        return run_blocking(lab, params, on_event, device=wanted.device, seed=wanted.seed, budget=budget)


def _show(lab: Lab, state: RunState, record: RunRecord, wanted: Wanted) -> None:
    if wanted.as_json:
        from llmquiz.cli.labtables import run_to_json, to_text

        print(to_text(run_to_json(record)))
    elif not wanted.events:
        from rich.console import Console

        from llmquiz.lab.view import report

        console = Console(highlight=False)
        console.print(report(lab.manifest, state, wanted.lang, console))


def _keep(record: RunRecord) -> None:
    from llmquiz.store import Store

    with Store.open() as store:
        store.add_run(record)
