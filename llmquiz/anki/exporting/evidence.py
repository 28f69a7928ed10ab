"""What this machine measured for a card: its lab's curves as a picture, and the learner's guess beside the number.

It stands in the note's field ``Lab``: the fields of version 1 are frozen, and Anki updates a note whose field grew.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

from llmquiz.anki.exporting import escape
from llmquiz.anki.exporting.pictures import Labels, Points
from llmquiz.core.card import Card, LabLink, Lang
from llmquiz.core.day import Calendar

Draw = Callable[[Mapping[str, Points], Labels, str], bytes]

_RUNS = """
    SELECT id, params, device, started_at, started_at + seconds, series FROM run
    WHERE lab = ? AND outcome = 'ok' AND series <> '[]' ORDER BY started_at DESC, id DESC LIMIT 50
"""
_GUESSES = """
    SELECT prediction.card, metric, guess, measured, at, run.device, run.lab,
           max(coalesce(run.started_at + run.seconds, 0), at)
    FROM prediction LEFT JOIN run ON run.id = prediction.run
    WHERE measured IS NOT NULL ORDER BY at, prediction.id
"""
_SENTENCES = {
    Lang.EN: "You guessed {guess}, this machine measured {measured} ({where}).",
    Lang.ZH: "你预测 {guess}，本机实测 {measured}（{where}）。",
}
_PICTURE = '<br><img src="{name}" alt="{title}" style="max-width:100%;height:auto">'


class _Run(NamedTuple):
    id: int
    params: Mapping[str, Any]
    device: str
    started_at: float
    ended_at: float
    series: Sequence[Mapping[str, Any]]


class Evidence:
    """Finds what was measured for cards, and draws each run once.

    Args:
        labels: what the manifest of a lab says; None for a lab that is not there any more.
        draw: makes the pictures; None leaves them out.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        langs: Sequence[Lang],
        calendar: Calendar,
        labels: Callable[[str], Labels | None],
        draw: Draw | None,
    ) -> None:
        self.media: dict[str, bytes] = {}
        self.undrawn = 0
        self._connection = connection
        self._langs = langs
        self._calendar = calendar
        self._labels = labels
        self._draw = draw
        self._guesses = {row[0]: row[1:] for row in connection.execute(_GUESSES)}
        self._labs = {lab for (lab,) in connection.execute("SELECT DISTINCT lab FROM run WHERE outcome = 'ok'")}
        self._runs: dict[str, list[_Run]] = {}
        self._pictures: dict[int, str] = {}

    def of(self, card: Card) -> tuple[str, int]:
        """HTML for the card's back, empty if nothing was measured; and when that was last added to, Unix seconds."""
        if card.lab is None:
            return "", 0
        run = self._run(card.lab) if card.lab.lab in self._labs else None
        picture = self._picture(card.lab.lab, run) if run else ""
        guess, guessed_at = self._guess(card)
        return picture + guess, max(int(run.ended_at) if run and picture else 0, guessed_at)

    def _run(self, link: LabLink) -> _Run | None:
        """The newest run with the card's parameters, else the newest of all."""
        if link.lab not in self._runs:
            rows = self._connection.execute(_RUNS, (link.lab,))
            self._runs[link.lab] = [
                _Run(number, json.loads(params), device, started_at, ended_at, json.loads(series))
                for number, params, device, started_at, ended_at, series in rows
            ]
        runs = self._runs[link.lab]
        return next((run for run in runs if _agrees(run.params, link.params)), runs[0] if runs else None)

    def _picture(self, lab: str, run: _Run) -> str:
        if self._draw is None:
            self.undrawn += 1
            return ""
        if run.id not in self._pictures:
            labels = self._labels(lab) or Labels(lab)
            metric = _metric(run, labels.metric)
            curves = {it["series"]: it["points"] for it in run.series if it["metric"] == metric}
            if metric != labels.metric:
                labels = Labels(labels.title, metric, units=labels.units)
            png = self._draw(curves, labels, f"{run.device}, {self._day(run.started_at)}".lstrip(", "))
            self._pictures[run.id] = self._keep(png, labels.title) if png else ""
        return self._pictures[run.id]

    def _keep(self, png: bytes, title: str) -> str:
        name = f"llmquiz-{hashlib.sha256(png).hexdigest()[:20]}.png"
        self.media[name] = png
        return _PICTURE.format(name=name, title=escape.text(escape.clean(title)).replace('"', "&quot;"))

    def _guess(self, card: Card) -> tuple[str, int]:
        if card.id not in self._guesses:
            return "", 0
        metric, guess, measured, at, device, lab, known_at = self._guesses[card.id]
        labels = self._labels(lab or (card.lab.lab if card.lab else ""))
        unit = labels.units.get(metric, "") if labels else ""
        where = ", ".join(filter(None, (self._day(at), device)))
        words = {"guess": number(guess), "measured": f"{number(measured)} {unit}".strip(), "where": where}
        lines = [
            f'<br><span lang="{lang.value}">{escape.text(escape.clean(_SENTENCES[lang].format(**words)))}</span>'
            for lang in self._langs
        ]
        return "".join(lines), int(known_at)

    def _day(self, at: float) -> str:
        return date.fromordinal(self._calendar.day(at)).isoformat()


def number(value: float) -> str:
    """Four digits, thousands apart: ``0.03125``, ``12.4``, ``8,192``."""
    if value and not 1e-4 <= abs(value) < 1e12:
        return f"{value:.4g}"
    rounded = float(f"{value:.4g}")
    return f"{rounded:,.0f}" if rounded.is_integer() else f"{rounded:,}"


def _agrees(run: Mapping[str, Any], card: Mapping[str, str]) -> bool:
    return all(str(run.get(name.replace("-", "_"))).lower() == value.lower() for name, value in card.items())


def _metric(run: _Run, wanted: str) -> str:
    metrics: list[str] = [it["metric"] for it in run.series]
    return wanted if wanted in metrics else metrics[0]
