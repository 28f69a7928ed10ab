"""The statistics as a page for a terminal, 80 columns or wider; the TUI lays the same sections in a grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TypeAlias

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from llmquiz.core.card import Lang
from llmquiz.deck.plain import one_line
from llmquiz.study import charts
from llmquiz.study.statistics import Recall, Statistics
from llmquiz.study.words import duration, listed, word

WIDE = 104  # columns from which most sections stand side by side
NORMAL = 80  # columns from which the two tables do
_LEFT, _GAP = 46, 4
_TOPICS = 12
_CHART_HEIGHT = 5
_GOOD, _FAIR = 0.85, 0.7  # recall from which a rate is green, yellow
_EVEN = 1.25  # a lean within this factor is none


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: its name for programs, its title and a note for the reader, and what it shows."""

    name: str
    title: str
    note: str
    renderable: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield _heading(self.title, self.note)
        yield Padding(self.renderable, (0, 0, 1, 0))


def sections(stats: Statistics, lang: Lang, width: int) -> list[Section]:
    """The sections that have something to show, each drawn for `width` columns."""
    if stats.empty:
        return [_welcome(stats, lang)]
    drawn = (build(stats, lang, width) for build in _BUILDERS.values())
    return [section for section in drawn if section is not None]


def page(stats: Statistics, lang: Lang, width: int) -> RenderableType:
    """All sections, short ones side by side where there is room."""
    if stats.empty:
        return _welcome(stats, lang)
    return Group(*_rows(stats, lang, width))


def _rows(stats: Statistics, lang: Lang, width: int) -> Iterator[RenderableType]:
    for names in _WIDE_ROWS if width >= WIDE else _ROWS if width >= NORMAL else ((name,) for name in _BUILDERS):
        half = (width - _GAP) // 2
        widths = (width,) if len(names) == 1 else (half, half) if width >= WIDE else (_LEFT, width - _GAP - _LEFT)
        drawn = [_BUILDERS[name](stats, lang, room) for name, room in zip(names, widths, strict=True)]
        present = [section for section in drawn if section is not None]
        if len(present) == len(names) == 1:
            yield present[0]
        elif present:
            yield _beside(present, widths)


def _beside(row: list[Section], widths: tuple[int, ...]) -> Table:
    grid = Table.grid(padding=(0, _GAP, 0, 0))
    for _, width in zip(row, widths, strict=False):
        grid.add_column(width=width)
    grid.add_row(*row)
    return grid


def _heading(title: str, note: str) -> RenderableType:
    return Rule(Text.assemble((title, "bold"), (f"  {note}" if note else "", "dim")), align="left", style="dim")


def _welcome(stats: Statistics, lang: Lang) -> Section:
    waiting = stats.cards.new
    text = Text(word("empty_cards", lang, n=waiting) + "\n" if waiting else "")
    text.append(word("empty_hint", lang))
    return Section("welcome", word("empty_title", lang), "", text)


def _today(stats: Statistics, lang: Lang, width: int) -> Section:
    today = stats.today
    judged = Recall(today.young_passed + today.mature_passed, today.young_judged + today.mature_judged)
    parts = [word("reviews", lang, n=today.reviews)]
    if today.reviews:
        seconds = today.milliseconds / 1000
        parts.append(duration(seconds, lang))
        parts.append(word("per_answer", lang, seconds=f"{seconds / today.reviews:.0f}"))
    if today.new:
        parts.append(word("new_cards", lang, n=today.new))
    if judged.rate is not None:
        parts.append(word("recalled", lang, rate=_percent(judged.rate)))
    streak = Text.assemble(
        f"{word('streak', lang)} ",
        (word("days", lang, n=stats.streak.current), "bold green" if stats.streak.current else "dim"),
        (listed(("", word("longest", lang, n=stats.streak.longest)), lang), "dim"),
    )
    return Section("today", word("today", lang), _date(stats.day, lang), Group(_dotted(parts), streak))


def _retention(stats: Statistics, lang: Lang, width: int) -> Section | None:
    if not stats.retention[-1].total.judged:
        return None
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("")
    for key in ("young", "mature", "total"):
        table.add_column(word(key, lang), justify="right")
    for row in stats.retention:
        table.add_row(_span(row.span, lang), *(_recalled(recall) for recall in (row.young, row.mature, row.total)))
    return Section("retention", word("retention", lang), "", table)


def _cards(stats: Statistics, lang: Lang, width: int) -> Section:
    states = (
        ("new", stats.cards.new, "blue"),
        ("learning", stats.cards.learning, "yellow"),
        ("young", stats.cards.young, "cyan"),
        ("mature", stats.cards.mature, "green"),
        ("suspended", stats.cards.suspended, "magenta"),
    )
    total = max(stats.cards.total, 1)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right", style="dim")
    table.add_column()
    room = max(width - 24, 6)
    for key, count, style in states:
        share = count / total
        table.add_row(word(key, lang), f"{count:,}", _percent(share), charts.bar(share, min(room, 40), style))
    return Section("cards", word("cards", lang), f"{stats.cards.total:,}", table)


def _forecast(stats: Statistics, lang: Lang, width: int) -> Section | None:
    ahead = stats.forecast
    values = (ahead.now, *ahead.due[1:])
    if not any(values):
        return None
    gutter = len(f"{max(values):,}") + 2
    column = max(min((width - gutter) // len(values), 4), 1)
    values = values[: (width - gutter) // column]
    lines = []
    for row, line in enumerate(charts.columns(values, _CHART_HEIGHT, column=column)):
        label = f"{max(values):,}" if row == 0 else ""
        lines.append(Text.assemble((f"{label:>{gutter - 2}} ┤" if row == 0 else f"{'':>{gutter - 2}} │", "dim"), line))
    lines.append(Text(f"{'0':>{gutter - 2}} └" + "─" * (column * len(values)), "dim"))
    lines.append(_days_axis(stats.day, len(values), column, gutter, lang))
    notes = [f"{word('today', lang)} {ahead.now:,}"]
    if ahead.overdue:
        notes[0] += f" ({word('overdue', lang)} {ahead.overdue:,})"
    if len(ahead.due) > 1:
        notes.append(f"{word('tomorrow', lang)} {ahead.due[1]:,}")
    notes.append(word("per_day", lang, n=f"{sum(values) / len(values):,.0f}"))
    return Section(
        "forecast",
        word("forecast", lang),
        word("forecast_days", lang, n=len(values)),
        Group(_dotted(notes), *lines),
    )


def _days_axis(today: int, days: int, column: int, gutter: int, lang: Lang) -> Text:
    """Every seventh day by its date, today by name."""
    line = Text(" " * gutter, "dim")
    for offset in range(0, days, 7):
        label = word("today", lang).lower() if offset == 0 else _short_date(today + offset)
        start = gutter + offset * column
        if line.cell_len <= start and start + len(label) <= gutter + days * column + 2:
            line.append(" " * (start - line.cell_len) + label + " ")
    return line


def _activity(stats: Statistics, lang: Lang, width: int) -> Section | None:
    if not stats.heat:
        return None
    weeks = charts.heat_weeks(width)
    lines = charts.heatmap(stats.heat, stats.day, weeks, lang)
    legend = charts.legend(word("less", lang), word("more", lang))
    total = sum(stats.heat.values())
    foot = Text(" " * 4).append_text(legend).append(f"   {word('reviews', lang, n=total)}", "dim")
    return Section("activity", word("activity", lang), word("activity_weeks", lang, n=weeks), Group(*lines, foot))


def _topics(stats: Statistics, lang: Lang, width: int) -> Section | None:
    begun = [topic for topic in stats.topics if topic.recall is not None]
    if not begun:
        return None
    bar_width = max(min(width // 4, 24), 8)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(width - bar_width - 26, 12))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right", style="dim")
    for topic in begun[:_TOPICS]:
        recall = topic.recall or 0.0
        seen = f"{topic.seen:,}/{topic.cards:,} {word('seen', lang)}"
        table.add_row(topic.topic, charts.bar(recall, bar_width, _recall_style(recall)), _percent(recall), seen)
    rest = len(stats.topics) - min(len(begun), _TOPICS)
    more = [Text(word("more_topics", lang, n=rest), "dim")] if rest else []
    return Section("topics", word("memory", lang), word("memory_note", lang), Group(table, *more))


def _hardest(stats: Statistics, lang: Lang, width: int) -> Section | None:
    if not stats.hardest:
        return None
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=False)
    table.add_column(word("card", lang), no_wrap=True, overflow="ellipsis", max_width=max(width - 26, 20))
    table.add_column(word("difficulty", lang), justify="right")
    table.add_column(word("lapses", lang), justify="right")
    for card in stats.hardest:
        front = card.fronts.get(lang) or next(iter(card.fronts.values()), card.card)
        table.add_row(Text(one_line(front)), f"{card.difficulty:.1f}", str(card.lapses))
    return Section("hardest", word("hardest", lang), "", table)


def _labs(stats: Statistics, lang: Lang, width: int) -> Section | None:
    if not stats.labs:
        return None
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(4):
        table.add_column(no_wrap=True, overflow="ellipsis")
    for lab in stats.labs[:8]:
        good = lab.outcome == "ok"
        claims = (
            word("claims", lang, held=lab.claims_held, total=lab.claims)
            if lab.claims
            else word(f"outcome_{lab.outcome}", lang)
        )
        mark = Text("✓ " if good else "✗ ", "green" if good else "red").append(claims, "default")
        table.add_row(lab.lab, word("runs", lang, n=lab.runs), mark, Text(_ago(stats, lab.last_at, lang), "dim"))
    return Section("labs", word("labs", lang), word("runs", lang, n=sum(lab.runs for lab in stats.labs)), table)


def _predictions(stats: Statistics, lang: Lang, width: int) -> Section | None:
    told = stats.predictions
    if told.typical_factor is None or told.lean is None:
        return None
    lean = "lean_high" if told.lean > _EVEN else "lean_low" if told.lean < 1 / _EVEN else "lean_even"
    parts = [word("typical_miss", lang, factor=f"{told.typical_factor:.2g}"), word(lean, lang)]
    note = word("predictions", lang, n=told.scored)
    return Section("predictions", word("predictions_title", lang), note, _dotted(parts))


def _dotted(parts: Iterable[str]) -> Text:
    return Text(" · ", "dim").join(Text(part, "default") for part in parts)


def _percent(share: float) -> str:
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


def _recalled(recall: Recall) -> Text:
    if recall.rate is None:
        return Text("-", "dim")
    return Text.assemble((_percent(recall.rate), _recall_style(recall.rate)), (f" {recall.judged:>6,}", "dim"))


def _recall_style(rate: float) -> str:
    return "green" if rate >= _GOOD else "yellow" if rate >= _FAIR else "red"


def _span(span: str, lang: Lang) -> str:
    return word("days", lang, n=int(span[:-1])) if span.endswith("d") else word(f"span_{span}", lang)


def _date(day: int, lang: Lang) -> str:
    at = date.fromordinal(day)
    return f"{at.year}年{at.month}月{at.day}日" if lang is Lang.ZH else f"{at.day} {at:%B %Y}"


def _short_date(day: int) -> str:
    return f"{date.fromordinal(day):%m-%d}"


def _ago(stats: Statistics, at: float, lang: Lang) -> str:
    days = round((stats.at - at) // 86400)
    return word("days_ago", lang, n=days) if days > 0 else word("today", lang).lower()


_Builder: TypeAlias = Callable[[Statistics, Lang, int], Section | None]
_BUILDERS: Mapping[str, _Builder] = {
    "today": _today,
    "retention": _retention,
    "cards": _cards,
    "forecast": _forecast,
    "activity": _activity,
    "topics": _topics,
    "hardest": _hardest,
    "labs": _labs,
    "predictions": _predictions,
}
_ROWS = (("today",), ("retention", "cards"), *((name,) for name in list(_BUILDERS)[3:]))
_WIDE_ROWS = (
    ("today",),
    ("retention", "cards"),
    ("activity",),
    ("forecast", "labs"),
    ("topics", "hardest"),
    ("predictions",),
)
