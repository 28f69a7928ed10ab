"""What a test sees of the app: the text on the screen, and the study screen with its turn."""

from __future__ import annotations

import time

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


async def told(pilot: Pilot[None], text: str, *, seconds: float = 10.0) -> None:
    """Wait until a notification says `text`: it is mounted some messages after it was sent, and wraps anywhere."""
    wanted, deadline = _joined(text), time.monotonic() + seconds
    while wanted not in _joined(screen_text(pilot.app)):
        assert time.monotonic() < deadline, f"{text!r} never stood on the screen:\n{screen_text(pilot.app)}"
        await pilot.pause(0.01)


def _joined(text: str) -> str:
    return "".join(text.replace("▌", "").split())
