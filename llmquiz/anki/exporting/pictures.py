"""The curves of a lab's run as a PNG that reads well on a phone, in light and in night mode.

The ground is transparent and every colour a mid-tone, so that the picture stands on white and on black alike. Curves
differ in marker and dash as well as in colour (Okabe and Ito's, which the colour-blind tell apart). The same curves
give the same bytes, or every export would change every note. Matplotlib's own font has no Chinese: words are English.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

Points = Sequence[tuple[float, float]]

_COLORS = ("#2A8CCB", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#56B4E9", "#8C6BB1", "#808080")
_MARKERS = "osD^vP*X"
_DASHES = ("-", "--", "-.", ":")
_INK = "#808891"
_INCHES = (6.0, 3.9)
_DPI = 200
_WORDS = 64
"""Characters of a title or label at most."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What a lab's manifest says about its curves and numbers, in English.

    Attributes:
        title: of the lab; `y`: of what the curves show.
        metric: whose curves are drawn.
        log: axes that are logarithmic, of ``x`` and ``y``.
        units: of every metric, by its name.
    """

    title: str
    metric: str = ""
    x: str = "x"
    y: str = ""
    log: tuple[str, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)

    @property
    def y_axis(self) -> str:
        """What the curves show, with its unit."""
        unit = self.units.get(self.metric, "")
        return f"{self.y or self.metric.replace('_', ' ')} ({unit})" if unit else self.y or self.metric


def draw(series: Mapping[str, Points], labels: Labels, caption: str) -> bytes:
    """The PNG of some curves; empty if they hold no number that can be drawn.

    Args:
        series: name -> points (x, y).
        caption: a small line below the title, e.g. where and when it was measured.
    """
    drawn = {name: finite for name, points in series.items() if (finite := _finite(points))}
    if not drawn:
        return b""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({"font.size": 11, "font.family": "DejaVu Sans", "svg.hashsalt": "llmquiz", "text.usetex": False}):
        figure = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for index, (name, points) in enumerate(drawn.items()):
            _curve(axes, name, points, index)
        _scales(axes, drawn, labels.log)
        _dress(axes, labels, caption)
        if len(drawn) > 1:
            axes.legend(frameon=False, fontsize=9, labelcolor=_INK, ncols=2 if len(drawn) > 4 else 1)
        out = BytesIO()
        figure.savefig(out, format="png", transparent=True, metadata={"Software": None})
    return out.getvalue()


def _finite(points: Points) -> list[tuple[float, float]]:
    return sorted((x, y) for x, y in points if math.isfinite(x) and math.isfinite(y))


def _curve(axes: Any, name: str, points: Points, index: int) -> None:
    xs, ys = zip(*points, strict=True)
    axes.plot(
        xs,
        ys,
        label=_shown(name) or f"curve {index + 1}",
        color=_COLORS[index % len(_COLORS)],
        marker=_MARKERS[index % len(_MARKERS)] if len(points) <= 40 else None,
        linestyle=_DASHES[index // len(_COLORS) % len(_DASHES)] if len(points) <= 40 else _DASHES[index % 4],
        linewidth=2,
        markersize=5,
    )


def _scales(axes: Any, series: Mapping[str, Points], log: Sequence[str]) -> None:
    """An axis with values that are not positive stays linear."""
    for index, name in enumerate("xy"):
        if name in log and all(point[index] > 0 for points in series.values() for point in points):
            getattr(axes, f"set_{name}scale")("log")


def _dress(axes: Any, labels: Labels, caption: str) -> None:
    title, below = _shown(labels.title), _shown(caption)
    axes.set_title(title, color=_INK, fontsize=12, fontweight="bold", loc="left", pad=22 if below else 8, wrap=True)
    axes.text(0, 1.03, below, transform=axes.transAxes, color=_INK, fontsize=9)
    axes.set_xlabel(_shown(labels.x), color=_INK)
    axes.set_ylabel(_shown(labels.y_axis), color=_INK)
    axes.tick_params(which="both", colors=_INK)
    axes.grid(True, which="major", color=_INK, alpha=0.25, linewidth=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_INK)


def _shown(words: str) -> str:
    """`words` as the font has them and as no formula: a dollar sign would start one."""
    kept = "".join(char for char in words if char.isprintable() and ord(char) < 0x2E80).replace("$", r"\$").strip()
    return kept if len(kept) <= _WORDS else f"{kept[: _WORDS - 1].rstrip()}…"
