"""Labs and runs as tables and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmquiz.core.card import Lang
    from llmquiz.lab.catalog import Lab
    from llmquiz.store.records import RunRecord


def print_labs(labs: Sequence[Lab], lang: Lang, *, as_json: bool) -> None:
    """The labs: name, title, time limit, and whether they can run here; topics would not fit into 80 columns."""
    if as_json:
        print(to_text({"labs": [lab_to_json(lab) for lab in labs]}))
        return
    from llmquiz.lab.words import in_lang, word

    rows = [
        (
            lab.name,
            in_lang(lab.manifest.title, lang),
            f"{lab.manifest.budget.seconds:g} s",
            word("missing", lang).format(names=", ".join(lab.missing)) if lab.missing else word("installed", lang),
        )
        for lab in labs
    ]
    _print_table([word(key, lang) for key in ("name", "title", "budget", "needs")], rows)


def print_runs(runs: Sequence[RunRecord], lang: Lang, *, as_json: bool) -> None:
    """Runs: when, which lab, how it ended, how long it took, where, with what."""
    if as_json:
        print(to_text({"runs": [run_to_json(run) for run in runs]}))
        return
    from llmquiz.lab.events import Outcome
    from llmquiz.lab.words import outcome_word, word

    rows = [
        (
            datetime.fromtimestamp(run.started_at).strftime("%Y-%m-%d %H:%M"),
            run.lab,
            outcome_word(Outcome(run.outcome), lang),
            f"{run.seconds:.1f}",
            run.device,
            " ".join(f"{name}={value}" for name, value in run.params.items() if value != ""),
        )
        for run in runs
    ]
    _print_table([word(key, lang) for key in ("when", "name", "outcome", "seconds", "device", "parameters")], rows)


def print_outcomes(runs: Sequence[RunRecord], absent: Sequence[Lab], lang: Lang, *, as_json: bool) -> None:
    """What became of each lab: how it ended, claims held, seconds, and which claims did not hold or what went wrong."""
    if as_json:
        skipped = [{"lab": lab.name, "missing": list(lab.missing)} for lab in absent]
        print(to_text({"runs": [run_to_json(run) for run in runs], "skipped": skipped}))
        return
    from llmquiz.lab.events import Outcome
    from llmquiz.lab.words import outcome_word, word

    rows = [
        (
            run.lab,
            outcome_word(Outcome(run.outcome), lang),
            f"{sum(claim['held'] for claim in run.claims)}/{len(run.claims)}",
            f"{run.seconds:.1f}",
            run.error or "",
        )
        for run in runs
    ]
    rows += [(lab.name, word("missing", lang).format(names=", ".join(lab.missing)), "", "", "") for lab in absent]
    _print_table([word(key, lang) for key in ("name", "outcome", "claims_held", "seconds", "problem")], rows)


def lab_to_json(lab: Lab) -> dict[str, Any]:
    """A lab as `llmquiz lab --json` prints it: its manifest, and which packages are missing."""
    manifest = lab.manifest
    return {
        "name": lab.name,
        "builtin": lab.builtin,
        "title": dict(manifest.title),
        "summary": dict(manifest.summary),
        "topics": list(manifest.topics),
        "needs": list(manifest.needs),
        "missing": list(lab.missing),
        "budget": asdict(manifest.budget),
        "params": [{**_fields(param), "help": dict(param.help)} for param in manifest.params.values()],
        "metrics": [{**_fields(metric), "title": dict(metric.title)} for metric in manifest.metrics.values()],
        "claims": [
            {
                "name": claim.name,
                "text": dict(claim.texts),
                "predict": asdict(claim.predict) if claim.predict else None,
            }
            for claim in manifest.claims.values()
        ],
    }


def run_to_json(run: RunRecord) -> dict[str, Any]:
    """A run as `llmquiz lab NAME --json` and `llmquiz lab history --json` print it."""
    return asdict(run)


def to_text(value: object) -> str:
    """JSON, indented, with Chinese as it is."""
    return json.dumps(value, ensure_ascii=False, indent=2)


def _fields(spec: Any) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in spec.__slots__ if name not in ("help", "title")}


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)
