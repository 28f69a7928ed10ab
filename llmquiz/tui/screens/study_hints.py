"""Which keys matter at which point of a turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmquiz.tui.app import LlmquizApp
    from llmquiz.tui.turn import Turn

_ALWAYS = ("study.undo", "study.flag", "study.edit", "app.language", "app.leave", "app.help")


def hints_for(turn: Turn, app: LlmquizApp) -> tuple[tuple[str, ...], dict[str, str]]:
    """Ids of bindings for the last row, the weightiest first, and words that stand in for their own."""
    lab = ("study.lab",) if turn.card.lab is not None and not turn.asks_guess else ()
    leave = {"app.leave": app.say("leave_session")}
    if not turn.revealed:
        return (*lab, *_ALWAYS), leave
    tick = ("points.tick", "points.down") if turn.points else ()
    return ("study.reveal", *tick, *lab, "study.copy", *_ALWAYS), {
        **leave,
        "study.reveal": app.say("take_marked"),
    }
