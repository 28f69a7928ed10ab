"""Every lab after the other with its defaults, and one table of what held: `llmquiz lab --all`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from llmquiz.core.errors import ExitCode
from llmquiz.lab.events import Outcome, RunEnded
from llmquiz.lab.record import to_record
from llmquiz.lab.runner import run_blocking
from llmquiz.lab.server import ForkServer
from llmquiz.lab.state import RunState

if TYPE_CHECKING:
    from llmquiz.core.card import Lang
    from llmquiz.lab.catalog import Lab
    from llmquiz.store.records import RunRecord


def run_all(labs: Sequence[Lab], lang: Lang, *, device: str, seed: int, as_json: bool) -> int:
    """Run, keep and show them. One warm process serves them all, so that torch is imported once.

    Returns the exit code: 1 if a lab broke a claim or did not come to its end, 3 if some lack packages, else 0.

    Raises:
        KeyboardInterrupt: after Ctrl+C; what had been measured is shown and kept.
    """
    present = [lab for lab in labs if not lab.missing]
    absent = [lab for lab in labs if lab.missing]
    records: list[RunRecord] = []
    warm = dict.fromkeys(name for lab in present for name in lab.manifest.warm)
    try:
        with ForkServer(warm or ("torch",)) as server:
            for number, lab in enumerate(present, start=1):
                print(f"{number}/{len(present)} {lab.name} ", end="", file=sys.stderr, flush=True)
                records.append(record := _run(lab, server, device, seed))
                print(f"{record.outcome} {record.seconds:.1f} s", file=sys.stderr, flush=True)
    finally:
        _keep(records)
        _show(records, absent, lang, as_json=as_json)
    if any(record.outcome != Outcome.OK for record in records):
        return ExitCode.FINDINGS
    return ExitCode.MISSING_EXTRA if absent else ExitCode.OK


def _run(lab: Lab, server: ForkServer, device: str, seed: int) -> RunRecord:
    state, started_at = RunState(), time.time()
    ended: RunEnded = run_blocking(lab, {}, state.apply, device=device, seed=seed, server=server)
    assert state.ended is ended
    return to_record(lab, {}, state, started_at=started_at)


def _keep(records: Iterable[RunRecord]) -> None:
    from llmquiz.store import Store

    with Store.open() as store:
        for record in records:
            store.add_run(record)


def _show(records: Sequence[RunRecord], absent: Sequence[Lab], lang: Lang, *, as_json: bool) -> None:
    from llmquiz.cli.labtables import print_outcomes

    print_outcomes(records, absent, lang, as_json=as_json)
