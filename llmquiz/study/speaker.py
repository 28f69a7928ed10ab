"""What the line mode says: sentences of the interface, a card's question, its answer, the commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TextIO

from llmquiz.core.card import Card, Kind, Lang
from llmquiz.core.rating import Rating
from llmquiz.study import cardtext
from llmquiz.study.session import Prompt
from llmquiz.study.words import (
    frequency_word,
    interface,
    interval,
    labelled,
    listed,
    rating_word,
    shown,
    state_word,
    word,
)

_INVITATIONS = {Kind.CLOZE: "fill_in", Kind.CHOICE: "pick", Kind.PREDICT: "guess"}
_ATTEMPTS = {Kind.CHOICE: "help_pick", Kind.PREDICT: "help_guess", Kind.CLOZE: "help_fill_in"}
_COMMANDS = (
    "help_undo",
    "help_suspend",
    "help_bury",
    "help_flag",
    "help_lab",
    "help_edit",
    "help_repeat",
    "help_help",
    "help_quit",
)


@dataclass(frozen=True, slots=True)
class Speaker:
    """Writes lines, each at once. `language` is ``en``, ``zh`` or ``both``."""

    stdout: TextIO
    language: str

    @property
    def lang(self) -> Lang:
        """The language of the interface."""
        return interface(self.language)

    def card_lang(self, card: Card) -> Lang:
        """The first of the languages in which `card` is shown."""
        return cardtext.languages_of(card, shown(self.language))[0]

    def say(self, line: str) -> None:
        """Write a line."""
        self.stdout.write(line + "\n")
        self.stdout.flush()

    def tell(self, key: str, **fields: object) -> None:
        """Write an entry of `llmquiz.study.words`."""
        self.say(word(key, self.lang, **fields))

    def suggest(self, key: str, rating: Rating, **fields: object) -> None:
        """Write an entry that names a rating."""
        self.tell(key, rating=rating_word(rating, self.lang), **fields)

    def question(self, prompt: Prompt, number: int) -> None:
        """What the card is and what it asks; `number` counts the session's cards."""
        card = prompt.card
        graded = card.kind is not Kind.NOTE
        facts = [card.topic, *((card.level, frequency_word(card.frequency, self.lang)) if graded else ())]
        facts.append(state_word(prompt.schedule.state, self.lang))
        if prompt.flag:
            facts.append(f"{word('flag', self.lang)} {prompt.flag}")
        if prompt.leech:
            facts.append(word("leech", self.lang))
        self.say("")
        self.say(f"{word('card_number', self.lang, n=number)} {listed((card.id, *facts), self.lang)}")
        for line in cardtext.question(card, prompt.ordinal, prompt.choice_order, shown(self.language)):
            self.say(line)

    def invitation(self, prompt: Prompt) -> None:
        """What may be typed before the answer is shown."""
        self.tell(_INVITATIONS.get(prompt.card.kind, "press_enter"))

    def answer(self, prompt: Prompt) -> None:
        """All that the back says, and what each rating would do."""
        card = prompt.card
        for line in cardtext.answer(card, prompt.ordinal, prompt.choice_order, shown(self.language)):
            self.say(line)
        if card.as_of:
            self.tell("as_of", date=card.as_of.isoformat())
        if card.lab:
            self.say(labelled("lab", card.lab.lab, self.lang))
        for rating, outcome in prompt.outcomes.items():
            self.say(
                f"{rating.value} {listed((rating_word(rating, self.lang), interval(outcome, self.lang)), self.lang)}"
            )

    def help(self, prompt: Prompt, *, revealed: bool, suggested: bool) -> None:
        """The commands that fit the present card."""
        card = prompt.card
        if revealed:
            self.tell("help_rate")
            if suggested:
                self.tell("help_accept")
            if card.text(self.card_lang(card)).key_points:
                self.tell("help_tick")
        else:
            self.tell("help_question")
            if card.kind in _ATTEMPTS:
                self.tell(_ATTEMPTS[card.kind], n=len(prompt.choice_order))
        for key in _COMMANDS:
            self.tell(key)
