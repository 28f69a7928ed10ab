"""The terminal app: one store, one stack of screens, and the few things that every screen shares.

`run` opens it: on the home screen, or straight into a study session.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.reactive import var

from llmquiz.core.card import Lang
from llmquiz.settings import LANGUAGES
from llmquiz.study.words import interface, shown
from llmquiz.tui import themes
from llmquiz.tui.bindings import bindings, find, signs, unknown
from llmquiz.tui.commands import QuizCommands
from llmquiz.tui.hangup import leave_with_terminal
from llmquiz.tui.results import Results
from llmquiz.tui.screens.base import QuizScreen
from llmquiz.tui.services import Services
from llmquiz.tui.words import say

if TYPE_CHECKING:
    from collections.abc import Iterable

    from textual.screen import Screen

    from llmquiz.lab.server import ForkServer
    from llmquiz.study.session import Scope

SMALLEST = (30, 8)  # columns, rows
FIRST = 2  # height of the screen stack under the first screen


def run(services: Services, *, scope: Scope | None = None, headless: bool = False) -> None:
    """Open the app on the home screen, or in a session over `scope`; returns when the user leaves.

    A fault of ours is raised once the terminal is itself again, for the command line to report.
    """
    app = LlmquizApp(services, scope=scope)
    leave_with_terminal()
    app.run(headless=headless)
    if app.fault is not None:
        raise app.fault


class LlmquizApp(App[None]):
    """The app. `language` is what cards are shown in: ``en``, ``zh`` or ``both``."""

    TITLE = "llmquiz"
    CSS_PATH = "app.tcss"
    COMMANDS = {QuizCommands}  # noqa: RUF012 - Textual reads it from the class
    BINDINGS: ClassVar[list[BindingType]] = bindings("app")
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - Textual reads both from the class
        (0, "-too-narrow"),
        (SMALLEST[0], "-narrow"),
        (80, "-normal"),
        (100, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-too-short"),
        (SMALLEST[1], "-short"),
        (24, "-tall"),
    ]

    language: var[str] = var("en", init=False)

    def __init__(self, services: Services, *, scope: Scope | None = None) -> None:
        super().__init__()
        self.services = services
        self.scope = scope
        self.lab_server: ForkServer | None = None
        self.set_reactive(LlmquizApp.language, services.settings.language)
        for theme in themes.OWN:
            self.register_theme(theme)
        self._choose_theme()

    @property
    def lang(self) -> Lang:
        """The language of the interface."""
        return interface(self.language)

    @property
    def languages(self) -> tuple[Lang, ...]:
        """The languages that a card is shown in."""
        return shown(self.language)

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return themes.variables(self.current_theme)

    def _first_screen(self) -> Screen[None]:
        if self.scope is not None:
            return self._session_screen(self.scope)
        from llmquiz.tui.screens.home import HomeScreen

        return HomeScreen()

    def on_mount(self) -> None:
        self.push_screen(self._first_screen())
        self._remap_keys()

    @property
    def at_first(self) -> bool:
        """Whether the present screen is the one that the app opened with; below it lies only Textual's blank one."""
        return len(self.screen_stack) <= FIRST

    def key_sign(self, id_: str) -> str:
        """The first key of a binding as a reader knows it, e.g. ``space``."""
        return signs(find(id_), self.services.settings.keys)[0]

    def say(self, key: str, **fields: object) -> str:
        """An entry of `llmquiz.tui.words` in the language of the interface."""
        return say(key, self.lang, **fields)

    @property
    def fault(self) -> Exception | None:
        """The exception that ended the app, if one did."""
        return self._exception

    def _fatal_error(self) -> None:
        # Textual would print pages of frames with all their variables; `run` raises the exception instead.
        self._close_messages_no_wait()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        return ()

    def action_help_quit(self) -> None:
        self.notify(self.say("quit_hint", sign=self.key_sign("app.leave")), timeout=3)

    def action_help(self) -> None:
        from llmquiz.tui.screens.help import HelpModal

        if not isinstance(self.screen, HelpModal):
            self.push_screen(HelpModal())

    def action_search(self) -> None:
        from llmquiz.tui.screens.search import SearchScreen

        self.push_screen(SearchScreen())

    def action_stats(self) -> None:
        from llmquiz.tui.screens.stats import StatsScreen

        self.push_screen(StatsScreen())

    def action_language(self) -> None:
        """The next language: English, Chinese, both."""
        self.show_language(LANGUAGES[(LANGUAGES.index(self.language) + 1) % len(LANGUAGES)])

    def show_language(self, language: str) -> None:
        """Show cards in `language`: ``en``, ``zh`` or ``both``."""
        self.language = language
        self.notify(self.say(f"language_{language}"), timeout=2)

    def study(self, scope: Scope) -> None:
        """Study `scope`, over the present screen."""
        self.push_screen(self._session_screen(scope))

    def action_leave(self) -> None:
        """Leave the screen; the first one leaves the app."""
        if self.at_first:
            self.exit()
        else:
            self.pop_screen()

    async def action_back(self) -> None:
        """Close what is open on the screen, else the screen unless it is the first."""
        if isinstance(self.screen, QuizScreen) and self.screen.back():
            return
        if not self.at_first:
            self.pop_screen()

    def run_lab(self, name: str) -> None:
        """Run a lab by itself, over the present screen."""
        from llmquiz.tui.screens.lab import LabScreen

        self.push_screen(LabScreen(name))

    def warm_labs(self) -> None:
        """Start the process that imports what labs need, so that the first lab begins at once; returns at once."""
        if self.lab_server is None:
            from llmquiz.lab.server import ForkServer

            self.lab_server = ForkServer(self.services.warm_modules())
            self.lab_server.start()

    def on_unmount(self) -> None:
        if self.lab_server is not None:
            self.lab_server.stop()

    def _session_screen(self, scope: Scope) -> Screen[None]:
        """The first card, or the summary of a session that has none."""
        session = self.services.session(scope)
        if session.next() is None:
            from llmquiz.tui.screens.summary import SummaryScreen

            return SummaryScreen(session, Results())
        from llmquiz.tui.screens.study import StudyScreen

        return StudyScreen(session)

    def _choose_theme(self) -> None:
        name = self.services.settings.theme or themes.default_theme(os.environ)
        self.theme = name if name in self.available_themes else themes.DARK.name
        if name != self.theme:
            known = ", ".join([theme.name for theme in themes.OWN] + ["ansi-dark", "ansi-light"])
            self.call_later(
                self.notify, self.say("theme_unknown", name=name, known=known), severity="warning", timeout=10
            )

    def _remap_keys(self) -> None:
        keys = self.services.settings.keys
        for id_ in unknown(keys):
            text = self.say("key_unknown", id=id_, sign=self.key_sign("app.help"))
            self.notify(text, severity="warning", timeout=10, markup=False)
        self.set_keymap({id_: key for id_, key in keys.items() if id_ not in unknown(keys)})
