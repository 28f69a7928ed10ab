"""Every lab over five seeds: seconds and claims held. `python -m tests.bench labs`; `LABS=lora,sft` for some."""

from __future__ import annotations

import os
import resource

from llmquiz import locations
from llmquiz.lab.catalog import Catalog, Lab
from llmquiz.lab.events import Outcome
from llmquiz.lab.runner import run_blocking
from llmquiz.lab.state import RunState

SEEDS = range(5)


def main() -> None:
    """Print a line a lab: wall and CPU seconds of the slowest run, claims held of all, and what broke."""
    catalog = Catalog([(locations.shipped("labs"), True)])
    chosen = os.environ.get("LABS", "")
    labs = [catalog.find(name) for name in chosen.split(",")] if chosen else catalog.labs()
    print(f"{'lab':<20} {'wall s':>8} {'cpu s':>8} {'claims':>8}")
    for lab in labs:
        runs = [_run(lab, seed) for seed in SEEDS]
        held, total = (sum(run[i] for run in runs) for i in (2, 3))
        problems = "; ".join(f"seed {seed}: {run[4]}" for seed, run in zip(SEEDS, runs, strict=True) if run[4])
        wall, cpu = (max(run[i] for run in runs) for i in (0, 1))
        print(f"{lab.name:<20} {wall:8.1f} {cpu:8.1f} {held:>4}/{total:<3} {problems}", flush=True)


def _run(lab: Lab, seed: int) -> tuple[float, float, int, int, str]:
    """Wall seconds of `run`, CPU seconds with imports, claims held, claims tested, what went wrong."""
    state, before = RunState(), _cpu_seconds()
    ended = run_blocking(lab, {}, state.apply, device="cpu", seed=seed)
    held = [claim.held for claim in state.claims.values()]
    problem = "" if ended.outcome is Outcome.OK else f"{ended.outcome}: {ended.error}"
    return ended.seconds, _cpu_seconds() - before, sum(held), len(held), problem


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
