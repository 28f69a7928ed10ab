"""The command palette: study a deck, run a lab's card, switch theme or language, and every action that has a key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider

from llmquiz.lab.words import in_lang
from llmquiz.settings import LANGUAGES
from llmquiz.study.queue import Scope
from llmquiz.tui.bindings import KEYS, signs

if TYPE_CHECKING:
    from llmquiz.tui.app import LlmquizApp

Entry = tuple[str, Callable[[], object], str]


class QuizCommands(Provider):
    """Everything that can be done from where the user is."""

    @property
    def _quiz(self) -> LlmquizApp:
        return cast("LlmquizApp", self.app)

    async def discover(self) -> Hits:
        for text, run, help_ in self._entries():
            yield DiscoveryHit(text, run, help=help_)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for text, run, help_ in self._entries():
            if (score := matcher.match(text)) > 0:
                yield Hit(score, matcher.highlight(text), run, help=help_)

    def _entries(self) -> Iterator[Entry]:
        yield from self._decks()
        yield from self._labs()
        yield from self._keys()
        yield from self._languages()
        yield from self._themes()

    def _decks(self) -> Iterator[Entry]:
        app = self._quiz
        for deck in app.services.deck_counts():
            title = app.services.deck_title(deck.id, app.lang)
            waiting = f"{deck.new + deck.learning + deck.due} {app.say('due_today')}"
            yield app.say("command_study", deck=title), partial(app.study, Scope(decks=(deck.id,))), waiting

    def _labs(self) -> Iterator[Entry]:
        app = self._quiz
        for lab in app.services.labs():
            manifest = lab.manifest
            title = in_lang(manifest.title, app.lang, lab.name)
            yield app.say("command_lab", lab=title), partial(app.run_lab, lab.name), in_lang(manifest.summary, app.lang)

    def _languages(self) -> Iterator[Entry]:
        for language in LANGUAGES:
            yield self._quiz.say(f"language_{language}"), partial(self._quiz.show_language, language), ""

    def _themes(self) -> Iterator[Entry]:
        app = self._quiz
        for name in app.available_themes:
            yield app.say("command_theme", theme=name), partial(setattr, app, "theme", name), ""

    def _keys(self) -> Iterator[Entry]:
        """Actions of the present screen and of the app, except moving about."""
        app = self._quiz
        active = {binding.binding.id for binding in self.screen.active_bindings.values() if binding.enabled}
        for key in KEYS:
            if key.id in active and key.group not in ("scroll", "choice"):
                action = key.action if key.action.startswith("app.") else f"screen.{key.action}"
                sign = signs(key, app.services.settings.keys)[0]
                text = key.text[app.lang]
                run = partial(app.run_action, action, self.screen)
                yield text[:1].upper() + text[1:], run, app.say("command_action", sign=sign)
