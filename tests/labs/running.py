"""Runs a lab for a test: in this process, where a test may look inside and change constants, or as a user runs it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from llmquiz.lab.catalog import Catalog
from llmquiz.lab.child import load_run, seed_all
from llmquiz.lab.events import ClaimTested, Event, MetricMeasured, Noted, Outcome, PointMeasured, TableReported
from llmquiz.lab.runner import run_blocking
from llmquiz.lab.sdk import Params, Report
from llmquiz.lab.server import ForkServer

LABS = Path(__file__).parents[2] / "labs"


class Results:
    """The events of a run, by what they are."""

    def __init__(self, events: list[Event]) -> None:
        self.metrics = {event.name: event.value for event in events if isinstance(event, MetricMeasured)}
        self.tested = [event for event in events if isinstance(event, ClaimTested)]
        self.claims = {event.name: event for event in self.tested}  # the last test of each
        self.points = [event for event in events if isinstance(event, PointMeasured)]
        self.notes = [event.text for event in events if isinstance(event, Noted)]
        self.tables = [event for event in events if isinstance(event, TableReported)]

    @property
    def broken(self) -> set[str]:
        """Claims that did not hold; one that is tested more than once must hold each time."""
        return {claim.name for claim in self.tested if not claim.held}


def load_script(name: str) -> ModuleType:
    """The lab's script, loaded afresh with the modules beside it."""
    package = f"llmquiz_lab_{name.replace('-', '_')}"
    for key in [key for key in sys.modules if key.startswith(f"{package}.")]:
        del sys.modules[key]
    return sys.modules[load_run(LABS / name / "lab.py", name).__module__]


def run_here(name: str, constants: Mapping[str, object] | None = None, *, seed: int = 0, **values: Any) -> Results:
    """The lab in this process, with other `constants` of its script and of the modules beside it."""
    lab = Catalog([(LABS, True)]).find(name)
    events: list[Event] = []
    run = load_script(name).run
    modules = [vars(module) for key, module in sys.modules.items() if f"{key}.".startswith(f"{run.__module__}.")]
    for constant, value in (constants or {}).items():
        holding = [module for module in modules if constant in module]
        assert holding, f"{name} has no {constant}"
        for module in holding:
            module[constant] = value
    seed_all(seed)
    params = Params(lab.manifest.resolve(values), device="cpu", seed=seed)
    run(params, Report(events.append, lab.manifest.metrics, lab.manifest.claims))
    return Results(events)


def run_in_child(
    name: str, *, seed: int = 0, server: ForkServer | None = None, **values: Any
) -> tuple[Outcome, Results]:
    """The lab as a user runs it, from a warm `server` if one is given, with the outcome of the run."""
    events: list[Event] = []
    lab = Catalog([(LABS, True)]).find(name)
    ended = run_blocking(lab, values, events.append, device="cpu", seed=seed, server=server)
    return ended.outcome, Results(events)
