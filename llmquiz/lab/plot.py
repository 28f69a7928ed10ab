"""Curves as lines of text, for the plain terminal.

Labels are ASCII, since wide characters break the rows. Each curve has a marker of its own: colour is never the only
sign.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from llmquiz.lab.words import number

Points = Sequence[tuple[float, float]]

MARKERS = "ox+*#@%&"
COLORS = ("blue", "orange", "green", "magenta", "cyan", "red", "gray", "white")
HEIGHT = 15
MIN_WIDTH = 24
TINY = 1e-290


def draw(
    series: Mapping[str, Points],
    *,
    width: int,
    height: int = HEIGHT,
    title: str = "",
    x: str = "",
    log: Sequence[str] = (),
    color: bool = False,
) -> str:
    """The curves as text of at most `width` columns; empty if there is nothing to draw.

    Args:
        series: name -> points (x, y).
        log: axes that are logarithmic, of ``x`` and ``y``; one with values that are not positive stays linear.
        color: whether to use ANSI colours.
    """
    import plotext  # 20 ms, and only where there is a curve

    drawn = {name: points for name, points in series.items() if points}
    if not drawn or width < MIN_WIDTH:
        return ""
    plotext.clear_figure()
    plotext.limit_size(False, False)
    for part in (plotext.canvas_color, plotext.axes_color, plotext.ticks_color):
        part("default")
    plotext.plot_size(width, height)
    for index, (name, points) in enumerate(drawn.items()):
        marker, tint = MARKERS[index % len(MARKERS)], COLORS[index % len(COLORS)]
        xs, ys = zip(*sorted((_drawable(px), _drawable(py)) for px, py in points), strict=True)
        label = ascii_only(name) or None if len(drawn) > 1 or name else None
        plotext.scatter(xs, ys, marker=marker, color=tint, label=label)
    _scales(drawn, log)
    plotext.title(ascii_only(title))
    plotext.xlabel(ascii_only(x))
    text: str = plotext.build() if color else plotext.uncolorize(plotext.build())
    return "\n".join(line.rstrip() for line in text.splitlines())


def ascii_only(text: str) -> str:
    """`text` without what is not ASCII."""
    return text.encode("ascii", "ignore").decode().strip()


def _drawable(value: float) -> float:
    """plotext's rounding fails on numbers that are zero for every eye."""
    return value if abs(value) > TINY else 0.0


def _scales(series: Mapping[str, Points], log: Sequence[str]) -> None:
    import plotext

    points = [point for points in series.values() for point in points]
    for axis, index in (("x", 0), ("y", 1)):
        values = [_drawable(point[index]) for point in points]
        if axis not in log or min(values) <= 0:
            continue
        (plotext.xscale if axis == "x" else plotext.yscale)("log")
        ticks = _ticks(min(values), max(values))
        (plotext.xticks if axis == "x" else plotext.yticks)(ticks, [number(tick) for tick in ticks])


def _ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Values that lie evenly on a logarithmic axis."""
    if low == high:
        return [low]
    start, end = math.log(low), math.log(high)
    return [math.exp(start + (end - start) * step / (count - 1)) for step in range(count)]
