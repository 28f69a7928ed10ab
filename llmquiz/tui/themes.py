"""Our two themes, ink on dark and ink on paper, and which theme a terminal gets when the user named none.

Colour carries no meaning alone: wherever a state is coloured, a word or a sign says the same. Dark surfaces are nearly
grey, since a terminal of 256 colours would turn a bluer one into navy.
"""

from __future__ import annotations

from collections.abc import Mapping

from pygments.token import Token  # type: ignore[import-untyped]
from textual.color import Color
from textual.highlight import HighlightTheme
from textual.theme import Theme

DARK = Theme(
    name="llmquiz-dark",
    dark=True,
    background="#16181c",
    surface="#1e2126",
    panel="#292d35",
    foreground="#d8dce3",
    primary="#8ab0dc",
    secondary="#9aa6b6",
    accent="#e2b873",
    success="#93c08b",
    warning="#e2b873",
    error="#e58b86",
    variables={
        "muted": "#929baa",
        "faint": "#4a525f",
        "code": "#b5c9ae",
        "screen-selection-background": "#33455c",
        "scrollbar": "#343b46",
        "scrollbar-background": "#16181c",
        "scrollbar-hover": "#4a525f",
        "scrollbar-background-hover": "#16181c",
        "scrollbar-active": "#8ab0dc",
        "scrollbar-background-active": "#16181c",
    },
)

LIGHT = Theme(
    name="llmquiz-light",
    dark=False,
    background="#fbfaf6",
    surface="#f2f0e9",
    panel="#e6e3da",
    foreground="#23262b",
    primary="#1d5a96",
    secondary="#566070",
    accent="#8f5300",
    success="#2b6f3a",
    warning="#8f5300",
    error="#ad2a22",
    variables={
        "muted": "#646b76",
        "faint": "#bdb9ae",
        "code": "#3d6347",
        "screen-selection-background": "#c9dcf0",
        "scrollbar": "#d5d1c6",
        "scrollbar-background": "#fbfaf6",
        "scrollbar-hover": "#bdb9ae",
        "scrollbar-background-hover": "#fbfaf6",
        "scrollbar-active": "#1d5a96",
        "scrollbar-background-active": "#fbfaf6",
    },
)

OWN = (DARK, LIGHT)
_SIXTEEN_COLOURS = ("linux", "ansi", "vt100", "vt220", "xterm", "screen", "tmux")


def default_theme(environ: Mapping[str, str]) -> str:
    """The theme for a terminal that nobody chose one for.

    Terminals of sixteen colours keep their own palette; ``COLORFGBG`` (``"0;15"``: black on white) tells a light one.
    """
    light = _is_light(environ.get("COLORFGBG", ""))
    if environ.get("TERM", "") in _SIXTEEN_COLOURS and not environ.get("COLORTERM"):
        return "ansi-light" if light else "ansi-dark"
    return LIGHT.name if light else DARK.name


def _is_light(colorfgbg: str) -> bool:
    background = colorfgbg.rsplit(";", 1)[-1]
    return background.isdigit() and (int(background) == 7 or int(background) >= 9)


def variables(theme: Theme) -> dict[str, str]:
    """Our variables for a theme that does not know them: text of second rank, rules, and inline code."""
    if theme.ansi:
        return {"muted": "ansi_default", "faint": "ansi_bright_black", "code": "ansi_cyan"}
    background = Color.parse(theme.background or ("#121212" if theme.dark else "#e0e0e0"))
    ink = Color.parse(theme.foreground) if theme.foreground else background.inverse
    return {
        "muted": background.blend(ink, 0.68).hex6,
        "faint": background.blend(ink, 0.28).hex6,
        "code": (theme.success or theme.primary),
    }


class CodeTheme(HighlightTheme):
    """Code in few colours: words of the language, names that are defined, literals; the rest is ink."""

    STYLES = {  # noqa: RUF012 - declared by Textual
        Token.Comment: "$muted italic",
        Token.Keyword: "$primary",
        Token.Keyword.Constant: "$accent",
        Token.Literal.Number: "$accent",
        Token.Literal.String: "$success",
        Token.Literal.String.Doc: "$muted italic",
        Token.Name.Function: "bold",
        Token.Name.Class: "bold",
        Token.Name.Decorator: "$primary",
        Token.Operator.Word: "$primary",
    }
