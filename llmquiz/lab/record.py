"""A run as the store keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from llmquiz.lab.catalog import Lab
from llmquiz.lab.events import Outcome
from llmquiz.lab.state import RunState
from llmquiz.store.records import RunRecord


def to_record(
    lab: Lab, params: Mapping[str, object], state: RunState, *, started_at: float, card: str | None = None
) -> RunRecord:
    """What `state` holds of a run, also of one that did not end well: what it had measured is kept.

    Args:
        params: as given to the runner; the record holds every parameter with its value.
        started_at: Unix seconds.
        card: id of the card that the lab was opened from.
    """
    ended, started = state.ended, state.started
    device = (started.device_name or started.device) if started else ""
    return RunRecord(
        lab=lab.name,
        started_at=started_at,
        seconds=ended.seconds if ended else 0.0,
        outcome=(ended.outcome if ended else Outcome.CANCELLED).value,
        params=lab.manifest.resolve(params),
        device=f"{started.device}: {device}" if started and device != started.device else device,
        versions=dict(started.versions) if started else {},
        metrics=dict(state.metrics),
        claims=[claim_to_json(state, name) for name in state.claims],
        series=series_to_json(state),
        tables=[asdict(table) for table in state.tables.values()],
        card=card,
        error=ended.error if ended else None,
    )


def claim_to_json(state: RunState, name: str) -> dict[str, Any]:
    """A tested claim with its numbers."""
    fields = asdict(state.claims[name])
    return {**fields, "relation": str(fields["relation"])}


def series_to_json(state: RunState) -> list[dict[str, Any]]:
    """Every curve: its metric, its name and its points."""
    return [
        {"metric": metric, "series": name, "points": [list(point) for point in points]}
        for metric, curves in state.series.items()
        for name, points in curves.items()
    ]
