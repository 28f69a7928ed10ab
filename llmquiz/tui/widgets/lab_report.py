"""What a lab says while it runs: the growing curve, metrics, claims as they are tested. It only draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget

from llmquiz.core.card import Lang
from llmquiz.lab.words import comparison, in_lang, number, word
from llmquiz.tui import plot
from llmquiz.tui.prose import Block, paragraph, set_lines
from llmquiz.tui.text import apart, dotted, muted

if TYPE_CHECKING:
    from llmquiz.lab.events import ClaimTested
    from llmquiz.lab.manifest import Manifest
    from llmquiz.lab.state import RunState
    from llmquiz.tui.app import LlmquizApp

PLOT_HEIGHT = 11
LOW_PLOT_HEIGHT = 7
LOW = 14  # rows below which the curve makes room for the claims
VERDICT = 10  # columns of a claim's sign and word


class LabReport(Widget):
    """The body of the panel as one piece of text, so that it can be selected and copied."""

    DEFAULT_CSS = """
    LabReport { height: auto; width: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._shown: tuple[Manifest | None, RunState] | None = None

    def show(self, manifest: Manifest | None, state: RunState) -> None:
        """Draw `state`."""
        self._shown = (manifest, state)
        self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._lines(width))

    def render(self) -> Content:
        return Content("\n").join(self._lines(self.content_size.width))

    @property
    def low(self) -> bool:
        """Whether the panel has few rows."""
        return isinstance(self.parent, Widget) and self.parent.size.height < LOW

    def _lines(self, width: int) -> list[Content]:
        if self._shown is None:
            return []
        manifest, state = self._shown
        lang = cast("LlmquizApp", self.app).lang
        if manifest is None:
            return self._error(state, width)
        parts = [
            self._error(state, width),
            self._curve(manifest, state, lang, width, LOW_PLOT_HEIGHT if self.low else PLOT_HEIGHT),
            self._claims(manifest, state, lang, width),
            self._metrics(manifest, state, lang, width),
            [line for note in state.notes for line in _flow(note, width, "$muted")],
        ]
        if state.started is None and state.running:
            parts.append(_flow(in_lang(manifest.summary, lang), width, "$muted"))
        return [
            line for index, part in enumerate(p for p in parts if p) for line in ([Content()] if index else []) + part
        ]

    @staticmethod
    def _error(state: RunState, width: int) -> list[Content]:
        if state.ended is None or state.ended.error is None or state.ended.outcome in ("ok", "broken"):
            return []
        return _flow(state.ended.error, width, "")

    @staticmethod
    def _curve(manifest: Manifest, state: RunState, lang: Lang, width: int, height: int) -> list[Content]:
        spec = manifest.plot
        metric = spec.metric if spec and spec.metric in state.series else state.plotted
        if metric is None:
            return []
        known = manifest.metrics.get(metric)
        titles = spec.title if spec and spec.metric == metric else known.title if known else {}
        title = dotted(in_lang(titles, lang) or metric, known.unit if known else "")
        x_label, log = (spec.x, spec.log) if spec else ("x", ())
        return [title, *plot.draw(state.series[metric], width, height, x_label=x_label, log=log)]

    @staticmethod
    def _metrics(manifest: Manifest, state: RunState, lang: Lang, width: int) -> list[Content]:
        lines: list[Content] = []
        for name, value in state.metrics.items():
            known = manifest.metrics.get(name)
            label = in_lang(known.title, lang) or name if known else name
            unit = f" {known.unit}" if known and known.unit else ""
            lines += _metric(label, Content.styled(number(value), "bold") + muted(unit), width)
        return lines

    @staticmethod
    def _claims(manifest: Manifest, state: RunState, lang: Lang, width: int) -> list[Content]:
        lines: list[Content] = []
        for name, claim in state.claims.items():
            known = manifest.claims.get(name)
            lines += _claim(claim, in_lang(known.texts, lang) if known else name, lang, width)
        return lines


def _claim(claim: ClaimTested, text: str, lang: Lang, width: int) -> list[Content]:
    sign, style = ("✓", "$success") if claim.held else ("✗", "$error")
    head = Content.styled(f"{sign} {word('held' if claim.held else 'broken', lang)}", f"bold {style}")
    head = head.pad_right(VERDICT - head.cell_length)
    indent = Content(" " * VERDICT)
    numbers = muted(comparison(claim, lang))
    return set_lines(
        [Block(paragraph(Content(text)), head, indent), Block(paragraph(numbers), indent, indent, True)], width
    )


def _metric(label: str, value: Content, width: int) -> list[Content]:
    first, *rest = paragraph(muted(label))(max(width - value.cell_length - 2, 8))
    return [apart(first, value, width), *rest]


def _flow(text: str, width: int, style: str) -> list[Content]:
    return paragraph(Content.styled(text, style))(width) if text else []
