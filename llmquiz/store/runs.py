"""Lab runs and the guesses that were made before them."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from llmquiz.store.records import PredictionRecord, RunRecord

_RUN = "lab, card, params, device, versions, started_at, seconds, outcome, metrics, claims, series, tables, error"
_PREDICTION = "run, card, metric, guess, measured, score, at"


def add_run(connection: sqlite3.Connection, run: RunRecord) -> int:
    """Keep a run; returns its id."""
    values = (
        run.lab,
        run.card,
        _json(run.params),
        run.device,
        _json(run.versions),
        run.started_at,
        run.seconds,
        str(run.outcome),
        _json(run.metrics),
        _json(run.claims),
        _json(run.series),
        _json(run.tables),
        run.error,
    )
    cursor = connection.execute(f"INSERT INTO run ({_RUN}) VALUES ({_marks(values)})", values)
    return int(cursor.lastrowid or 0)


def runs(connection: sqlite3.Connection, lab: str | None, limit: int) -> list[RunRecord]:
    """The youngest runs first; of one lab, or of all."""
    where, values = ("WHERE lab = ?", (lab, limit)) if lab else ("", (limit,))
    sql = f"SELECT id, {_RUN} FROM run {where} ORDER BY started_at DESC, id DESC LIMIT ?"
    return [_run(row) for row in connection.execute(sql, values)]


def add_prediction(connection: sqlite3.Connection, prediction: PredictionRecord) -> int:
    """Keep a guess; returns its id."""
    p = prediction
    values = (p.run, p.card, p.metric, p.guess, p.measured, p.score, p.at)
    cursor = connection.execute(f"INSERT INTO prediction ({_PREDICTION}) VALUES ({_marks(values)})", values)
    return int(cursor.lastrowid or 0)


def predictions(connection: sqlite3.Connection, card: str | None, limit: int) -> list[PredictionRecord]:
    """The youngest guesses first; of one card, or of all."""
    where, values = ("WHERE card = ?", (card, limit)) if card else ("", (limit,))
    sql = f"SELECT id, {_PREDICTION} FROM prediction {where} ORDER BY at DESC, id DESC LIMIT ?"
    return [
        PredictionRecord(
            id=row[0], run=row[1], card=row[2], metric=row[3], guess=row[4], measured=row[5], score=row[6], at=row[7]
        )
        for row in connection.execute(sql, values)
    ]


def _run(row: tuple[Any, ...]) -> RunRecord:
    (
        run_id,
        lab,
        card,
        params,
        device,
        versions,
        started_at,
        seconds,
        outcome,
        metrics,
        claims,
        series,
        tables,
        error,
    ) = row
    return RunRecord(
        id=run_id,
        lab=lab,
        card=card,
        params=json.loads(params),
        device=device,
        versions=json.loads(versions),
        started_at=started_at,
        seconds=seconds,
        outcome=outcome,
        metrics=json.loads(metrics),
        claims=json.loads(claims),
        series=json.loads(series),
        tables=json.loads(tables),
        error=error,
    )


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _marks(values: tuple[object, ...]) -> str:
    return ", ".join("?" * len(values))
