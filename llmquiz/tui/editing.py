"""Opening a card in the user's editor, with the terminal lent to it, and reading the decks again afterwards."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from textual.app import SuspendNotSupported

from llmquiz.core.errors import LlmquizError, UsageError
from llmquiz.study.edit import command, editable, editor

if TYPE_CHECKING:
    from llmquiz.core.card import Card
    from llmquiz.core.errors import Place
    from llmquiz.tui.app import LlmquizApp


def edit(app: LlmquizApp, card: Card) -> bool:
    """Let the user edit `card`; whether the decks were read again. What goes wrong is shown as a notification."""
    try:
        place = _place(app, card)
        _open(app, place)
        problems = app.services.read_again(card)
    except LlmquizError as error:
        app.notify(str(error), severity="warning", timeout=12, markup=False)
        return False
    for problem in problems[:3]:
        app.notify(problem, severity="error", timeout=15, markup=False)
    return True


def _place(app: LlmquizApp, card: Card) -> Place:
    """Where the card's text stands in the language that is shown first."""
    return editable(app.services.place(card, app.languages[0]))


def _open(app: LlmquizApp, place: Place) -> None:
    arguments = command(place, editor(app.services.settings))
    try:
        with app.suspend():
            code = subprocess.run(arguments, check=False).returncode
    except SuspendNotSupported as error:
        raise UsageError(app.say("no_editor", place=place)) from error
    except OSError as error:
        raise UsageError(f"{arguments[0]}: {(error.strerror or str(error)).lower()}; the card is at {place}") from error
    if code:
        raise UsageError(app.say("editor_failed", command=arguments[0], code=code, place=place))
