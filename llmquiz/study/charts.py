"""Charts of characters: bars, columns and the year's heatmap. Values are told by shape and read without colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from math import ceil

from rich.text import Text

from llmquiz.core.card import Lang

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_SHADES = ("·", "░", "▒", "▓", "█")
_WEEKDAYS = {Lang.EN: ("Mon", "", "Wed", "", "Fri", "", ""), Lang.ZH: ("一", "", "三", "", "五", "", "")}
_MONTHS = {
    Lang.EN: ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
    Lang.ZH: [f"{month}月" for month in range(1, 13)],
}
_CELL = 2  # a terminal cell is twice as tall as wide, so two make a square
_LABELS = 4


def bar(share: float, width: int, style: str = "green") -> Text:
    """A horizontal bar: heavy for `share` (0 to 1) of `width` columns, light for the rest."""
    filled = round(min(max(share, 0.0), 1.0) * width)
    return Text.assemble(("━" * filled, style), ("─" * (width - filled), "dim"))


def columns(values: Sequence[int], height: int, *, column: int = 2, style: str = "cyan") -> list[Text]:
    """A column chart, `height` lines from top to bottom; `column` is the width of each, its gap included."""
    peak = max(values, default=0) or 1
    eighths = [ceil(value / peak * height * 8) for value in values]
    thickness = max(column - 1, 1)
    lines = []
    for row in reversed(range(height)):
        cells = (_EIGHTHS[min(max(value - 8 * row, 0), 8)] * thickness for value in eighths)
        lines.append(Text("".join(cell.ljust(column) for cell in cells), style))
    return lines


def heat_weeks(width: int, most: int = 53) -> int:
    """How many weeks of the heatmap fit into `width` columns."""
    return max(min((width - _LABELS) // _CELL, most), 1)


def heatmap(counts: Mapping[int, int], today: int, weeks: int, lang: Lang) -> list[Text]:
    """A line of months, then seven from Monday to Sunday: a column of squares for each week, the last one today's."""
    monday = today - date.fromordinal(today).weekday() - 7 * (weeks - 1)
    steps = thresholds([count for day, count in counts.items() if monday <= day <= today])
    lines = [_months(monday, weeks, lang)]
    for weekday in range(7):
        label = _WEEKDAYS[lang][weekday]
        line = Text(label, "dim")
        line.append(" " * (_LABELS - line.cell_len))
        for day in range(monday + weekday, today + 1, 7):
            line.append_text(_square(level(counts.get(day, 0), steps)))
        lines.append(line)
    return lines


def legend(less: str, more: str) -> Text:
    """The shades from none to most, between the two words."""
    squares = [_square(shade) for shade in range(len(_SHADES))]
    return Text.assemble((f"{less}  ", "dim"), *squares, (f" {more}", "dim"))


def thresholds(counts: Sequence[int]) -> tuple[int, int, int]:
    """The quartiles of the active days: counts from each on are drawn darker. One huge day does not pale all others."""
    active = sorted(count for count in counts if count > 0)
    if not active:
        return (0, 0, 0)
    first, second, third = (active[(len(active) - 1) * quarter // 4] for quarter in (1, 2, 3))
    return (first, second, third)


def level(count: int, steps: Sequence[int]) -> int:
    """The shade of a day, 0 (none) to 4 (most)."""
    return 0 if count == 0 else 1 + sum(count >= step for step in steps)


def _square(shade: int) -> Text:
    if shade == 0:
        return Text(_SHADES[0].ljust(_CELL), "dim")
    return Text(_SHADES[shade] * _CELL, "green")


def _months(monday: int, weeks: int, lang: Lang) -> Text:
    """The name of each month above the first week that starts in it, as far as there is room."""
    line = Text(" " * _LABELS, "dim")
    month = None
    for week in range(weeks):
        start = date.fromordinal(monday + 7 * week)
        name = _MONTHS[lang][start.month - 1]
        if start.month != month and line.cell_len <= _LABELS + _CELL * week and week < weeks - 1:
            line.append(" " * (_LABELS + _CELL * week - line.cell_len) + name + " ")
        month = start.month
    return line
