"""What a test sees of the app: the text on the screen, and the study screen with its turn."""

from __future__ import annotations

from textual.app import App
from textual.pilot import Pilot

from llmquiz.tui.screens.study import StudyScreen


def screen_text(app: App[None]) -> str:
    """What stands on the screen, line by line."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


def study(app: App[None]) -> StudyScreen:
    """The study screen, which must be the present one."""
    assert isinstance(app.screen, StudyScreen)
    return app.screen


async def press(pilot: Pilot[None], *keys: str) -> None:
    """Press keys and wait until everything that follows from them has happened."""
    await pilot.press(*keys)
    await pilot.pause()
