"""The first screen: today at a glance, and the decks."""

from __future__ import annotations

from datetime import date
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Vertical
from textual.content import Content
from textual.widgets import OptionList, Static

from llmquiz.core.card import Lang
from llmquiz.study.queue import Scope
from llmquiz.study.words import duration
from llmquiz.tui.bindings import bindings
from llmquiz.tui.overview import Overview, overview
from llmquiz.tui.screens.base import QuizScreen
from llmquiz.tui.text import apart, dotted, muted
from llmquiz.tui.widgets.decks import DeckList
from llmquiz.tui.widgets.hints import Hints
from llmquiz.tui.widgets.line import Line

WEEKDAYS = "一二三四五六日"


class HomeScreen(QuizScreen):
    """Decks with what they have for today. Coming back to it counts anew."""

    CSS_PATH = "home.tcss"
    AUTO_FOCUS = "#decks"
    BINDINGS: ClassVar[list[BindingType]] = bindings("home")

    def compose_body(self) -> ComposeResult:
        with Container(id="home-frame"), Vertical(id="home"):
            yield Line(id="home-title")
            yield Static(id="home-today")
            yield Line(id="home-head")
            yield DeckList(id="decks")
            yield Static(id="home-empty")
        yield Hints(id="hints")

    def on_screen_resume(self) -> None:
        self.relabel()

    def relabel(self) -> None:
        seen = overview(self.quiz.services)
        decks = self.query_one(DeckList)
        self.query_one("#home-title", Line).show(lambda width: apart(self._wordmark(width), self._date(), width))
        self.query_one("#home-today", Static).update(self._today(seen))
        self.query_one("#home-head", Line).show(decks.head)
        decks.show(seen.decks, seen.learned)
        empty = self.query_one("#home-empty", Static)
        empty.display = not seen.decks
        empty.update(muted(self.say("no_decks")))
        self.query_one(Hints).offer(
            ("home.study", "home.all", "app.search", "home.stats", "app.language", "app.leave", "app.help")
        )

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.action_study()

    def action_study(self) -> None:
        """Study the deck under the cursor."""
        deck = self.query_one(DeckList).deck()
        if deck is not None:
            self.quiz.study(Scope(decks=(deck.id,)))

    def action_study_all(self) -> None:
        """Study all decks."""
        self.quiz.study(Scope())

    def action_cursor(self, by: int) -> None:
        self.query_one(DeckList).move(by)

    def _wordmark(self, width: int) -> Content:
        mark = Content.assemble(("llm", "bold $primary"), ("quiz", "bold"))
        return mark + muted(f"   {self.say('tagline')}") if width >= 70 else mark

    def _date(self) -> Content:
        day = date.fromordinal(self.quiz.services.today)
        if self.lang is Lang.ZH:
            return muted(f"{day.month}月{day.day}日 周{WEEKDAYS[day.weekday()]}")
        return muted(f"{day:%a} {day.day} {day:%b}")

    def _today(self, seen: Overview) -> Content:
        waiting = Content.assemble((str(seen.waiting), "bold $primary"), f" {self.say('due_today')}")
        if not seen.waiting and seen.decks:
            waiting = Content(self.say("nothing_today"))
        reviewed = streak = Content.empty()
        if seen.reviewed:
            spent = duration(seen.seconds, self.lang)
            reviewed = Content.assemble(
                (str(seen.reviewed), "bold"), (f" {self.say('reviewed_today')}, {spent}", "$muted")
            )
        if seen.streak > 1:
            streak = Content.assemble((str(seen.streak), "bold"), (f" {self.say('streak')}", "$muted"))
        return dotted(waiting, reviewed, streak)
