"""Small pieces of styled text that several widgets put together."""

from __future__ import annotations

from textual.content import Content

MUTED = "$muted"
FAINT = "$faint"


def muted(text: str) -> Content:
    """Text of second rank."""
    return Content.styled(text, MUTED)


def dotted(*parts: Content | str) -> Content:
    """The parts that are not empty, parted by middle dots."""
    shown = [part if isinstance(part, Content) else muted(part) for part in parts if part]
    return Content.styled(" · ", FAINT).join(shown)


def apart(left: Content, right: Content, width: int) -> Content:
    """`left` and `right` at the two ends of a line of `width` cells; `left` is cut where they would meet."""
    room = width - right.cell_length
    if room < 2:
        return right.truncate(width, ellipsis=True)
    left = left.truncate(room - 1, ellipsis=True) if left.cell_length > room - 1 else left
    return left + Content(" " * (room - left.cell_length)) + right


def bar(fraction: float, width: int, *, style: str = "$primary") -> Content:
    """A thin bar of `width` cells, filled by halves of a cell."""
    halves = round(min(1.0, max(0.0, fraction)) * width * 2)
    full, half = divmod(halves, 2)
    filled = Content.styled("━" * full + "╸" * half, style)
    return filled + Content.styled("─" * (width - full - half), FAINT)
