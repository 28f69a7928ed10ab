"""A run on the terminal: live where it is one, and a report at the end that reads the same in a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from llmquiz.core.card import Lang
from llmquiz.lab.events import Event, Outcome, Progressed, RunEnded, TableReported
from llmquiz.lab.manifest import Manifest
from llmquiz.lab.plot import draw
from llmquiz.lab.state import RunState
from llmquiz.lab.words import comparison, in_lang, number, outcome_word, word

FRAME_SECONDS = 0.1
MAX_WIDTH = 100
BAR_WIDTH = 30


class LiveView:
    """Redraws a terminal as the state of a run changes. Use as a context manager around the run."""

    def __init__(self, console: Console, manifest: Manifest, state: RunState, lang: Lang) -> None:
        self._console, self._manifest, self._state, self._lang = console, manifest, state, lang
        self._live = Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop")
        self._drawn = 0.0

    def __enter__(self) -> LiveView:
        self._live.start()
        self._draw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, event: Event) -> None:
        """Draw again, though no more often than an eye can follow."""
        if isinstance(event, RunEnded) or time.monotonic() - self._drawn >= FRAME_SECONDS:
            self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        frame = live_frame(self._manifest, self._state, self._lang, self._console)
        self._live.update(frame, refresh=True)


class LineView:
    """Says in lines how a run gets on, for a stream that is no terminal: one line for each part of the work."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._label = ""

    def show(self, event: Event) -> None:
        """A line, if the event begins a part."""
        if isinstance(event, Progressed) and event.label and event.label != self._label:
            self._label = event.label
            count = f": {event.total} {event.unit}".rstrip() if event.total else ""
            self._console.print(Text(f"{event.label}{count}"))


def live_frame(manifest: Manifest, state: RunState, lang: Lang, console: Console) -> RenderableType:
    """A run that goes on: how far it is, its curve, its numbers and claims so far."""
    parts: list[RenderableType] = [
        _title(manifest, lang),
        _progress(state, lang),
        *_curve(manifest, state, lang, console),
    ]
    parts += [*_metrics(manifest, state, lang), *_claims(manifest, state, lang)]
    return Group(*parts)


def report(manifest: Manifest, state: RunState, lang: Lang, console: Console) -> RenderableType:
    """A run that has ended: curve, numbers, tables, claims, notes, and how it ended."""
    parts: list[RenderableType] = [
        _title(manifest, lang),
        *_circumstances(state, lang),
        *_curve(manifest, state, lang, console),
    ]
    parts += [*_metrics(manifest, state, lang), *(_table(table) for table in state.tables.values())]
    parts += [*_claims(manifest, state, lang), *(Text(note, style="dim") for note in state.notes)]
    return Group(*parts)


def _title(manifest: Manifest, lang: Lang) -> Text:
    return Text(in_lang(manifest.title, lang, manifest.name), style="bold")


def _progress(state: RunState, lang: Lang) -> RenderableType:
    now = state.progress
    if now is None:
        return Text(word("starting", lang) + "…" if state.started is None else state.started.device, style="dim")
    count = f" {now.done}/{now.total} {now.unit}" if now.total else f" {now.done} {now.unit}"
    row = Table.grid(padding=(0, 1))
    row.add_row(
        ProgressBar(max(now.total, 1), now.done, width=BAR_WIDTH), Text(count.strip()), Text(now.label, style="dim")
    )
    return row


def _circumstances(state: RunState, lang: Lang) -> Iterator[Text]:
    facts = []
    if state.started:
        facts.append(f"{state.started.device} {state.started.device_name}".strip())
    if state.ended:
        facts += [outcome_word(state.ended.outcome, lang), f"{state.ended.seconds:.1f} s"]
        if state.ended.peak_mb:
            facts.append(f"{word('peak', lang)} {state.ended.peak_mb:.0f} MB")
    yield Text(" · ".join(facts), style="dim")


def _curve(manifest: Manifest, state: RunState, lang: Lang, console: Console) -> Iterator[Text]:
    spec = manifest.plot
    metric = spec.metric if spec and spec.metric in state.series else state.plotted
    if metric is None:
        return
    unit = manifest.metrics[metric].unit if metric in manifest.metrics else ""
    x, log = (spec.x, spec.log) if spec and spec.metric == metric else ("x", ())
    title = f"{metric} ({unit})" if unit else metric
    color = console.color_system is not None and not console.no_color
    width = min(console.width, MAX_WIDTH)
    drawn = draw(state.series[metric], width=width, title=title, x=x, log=log, color=color)
    if drawn:
        yield Text()
        yield Text.from_ansi(drawn)


def _metrics(manifest: Manifest, state: RunState, lang: Lang) -> Iterator[RenderableType]:
    if not state.metrics:
        return
    table = _plain_table()
    for key in ("metric", "value", "unit"):
        table.add_column(word(key, lang), justify="right" if key == "value" else "left")
    for name, value in state.metrics.items():
        known = manifest.metrics.get(name)
        title = in_lang(known.title, lang, name) if known else name
        table.add_row(Text(title), Text(number(value)), Text(known.unit if known else ""))
    yield Text()
    yield table


def _table(reported: TableReported) -> RenderableType:
    table = _plain_table(reported.name)
    for index, column in enumerate(reported.columns):
        numeric = all(isinstance(row[index], int | float | None) for row in reported.rows)
        table.add_column(Text(column), justify="right" if numeric else "left")
    for row in reported.rows:
        table.add_row(*(Text(_cell(cell)) for cell in row))
    return Group(Text(), table)


def _plain_table(title: str = "") -> Table:
    return Table(
        title=Text(title) if title else None, title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False
    )


def _cell(cell: object) -> str:
    if cell is None:
        return "-"
    return number(cell) if isinstance(cell, float) else str(cell)


def _claims(manifest: Manifest, state: RunState, lang: Lang) -> Iterator[RenderableType]:
    finished = state.outcome in (Outcome.OK, Outcome.BROKEN)
    names = list(manifest.claims) if finished else [name for name in manifest.claims if name in state.claims]
    if not names:
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    for name in names:
        tested = state.claims.get(name)
        key = "untested" if tested is None else "held" if tested.held else "broken"
        text = Text(in_lang(manifest.claims[name].texts, lang, name))
        if tested is not None:
            text.append(f"\n{comparison(tested, lang)}", style="dim")
        table.add_row(Text(word(key, lang), style="bold green" if key == "held" else "bold red"), text)
    yield Text()
    yield table
