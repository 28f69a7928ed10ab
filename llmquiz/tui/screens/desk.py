"""What can be done to the card on the desk besides answering it: its lab, undo, flag, bury, suspend, copy, edit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

from textual import on

from llmquiz.core.errors import StoreError
from llmquiz.study.session import StaleCardError, Undone
from llmquiz.study.words import rating_word
from llmquiz.tui.faces import Face, as_markdown, face
from llmquiz.tui.results import Results
from llmquiz.tui.screens.base import QuizScreen
from llmquiz.tui.turn import Turn
from llmquiz.tui.widgets.lab_messages import LabClosed, LabEnded

if TYPE_CHECKING:
    from llmquiz.study.session import Session
    from llmquiz.tui.widgets.lab_panel import LabPanel

Written = TypeVar("Written")
FLAGS = 5  # none and four colours; the other three may come with decks from Anki


class DeskScreen(QuizScreen):
    """Holds a session and its present turn, None between cards; whoever asks the cards draws them."""

    def __init__(self, session: Session, results: Results) -> None:
        super().__init__()
        self.session = session
        self.results = results
        self.turn: Turn | None = None

    def draw(self) -> None:
        """Draw the turn anew."""
        raise NotImplementedError

    def leave_card(self) -> None:
        """Go on to the card that the session has next."""
        raise NotImplementedError

    def face(self) -> Face:
        """What the card shows in the reader's languages."""
        assert self.turn is not None
        prompt, services = self.turn.prompt, self.quiz.services
        return face(
            prompt.card,
            self.quiz.languages,
            ordinal=prompt.ordinal,
            order=prompt.choice_order,
            front_of=lambda id_: services.front(id_, self.lang),
        )

    @property
    def panel(self) -> LabPanel | None:
        """The lab beside the card, if it is open."""
        panels = self.query("#lab")
        return cast("LabPanel", panels.first()) if panels else None

    def back(self) -> bool:
        """Escape stops the lab, then closes it."""
        if self.panel is None:
            return False
        self.panel.stop_or_close()
        return True

    def action_lab(self) -> None:
        """Run the card's lab; while it runs, stop it; after that, close its panel."""
        if self.turn is None:
            return
        if self.panel is not None:
            self.panel.stop_or_close()
        elif self.turn.card.lab is None:
            self.notify(self.word("no_lab"), timeout=3)
        elif self.turn.asks_guess:
            self.notify(self.say("guess_before_lab"), timeout=4)
        else:
            self._open_lab()

    def _open_lab(self) -> None:
        from llmquiz.tui.widgets.lab_panel import LabPanel

        assert self.turn is not None
        card = self.turn.card
        assert card.lab is not None
        self.query_one("#desk").mount(LabPanel(card.lab, card.id, self.turn.guess))
        self.add_class("-lab")

    @on(LabClosed)
    def close_lab(self) -> None:
        """Close the panel; a lab that runs is ended."""
        if self.panel is not None:
            self.panel.remove()
        self.remove_class("-lab")

    @on(LabEnded)
    def _lab_ended(self, event: LabEnded) -> None:
        turn = self.turn
        if turn is not None and event.judged is not None and event.card == turn.card.id:
            turn.measured, turn.score = event.measured, event.judged
            self.draw()

    def action_undo(self) -> None:
        """Take back the last thing that was done."""
        undone = self.written(lambda: self.session.undo() or _NOTHING)
        if undone is _NOTHING:
            self.notify(self.word("nothing_to_undo"), timeout=3)
        elif undone is not None:
            self.results.take_back(undone)
            what = rating_word(undone.rating, self.lang) if undone.rating else self.word(undone.kind).lower()
            self.notify(self.word("undone", what=what), timeout=2)
            self.leave_card()

    def action_flag(self) -> None:
        """The next flag."""
        if self.turn is None:
            return
        flag = (self.turn.prompt.flag + 1) % FLAGS
        if self.written(lambda: self.session.flag(flag)) and (prompt := self.session.next()):
            self.turn.prompt = prompt
            self.draw()

    def action_bury(self) -> None:
        """Put the card away until tomorrow."""
        if self.turn is not None and self.written(self.session.bury) is not None:
            self.notify(self.word("now_buried"), timeout=3)
            self.leave_card()

    def action_suspend(self) -> None:
        """Put the card away until it is resumed."""
        if self.turn is not None and self.written(self.session.suspend) is not None:
            self.notify(self.word("now_suspended"), timeout=3)
            self.leave_card()

    def action_copy(self) -> None:
        """Copy the card as Markdown to the clipboard."""
        if self.turn is not None:
            self.quiz.copy_to_clipboard(as_markdown(self.face(), self.lang))
            self.notify(self.say("copied"), timeout=2)

    def action_edit(self) -> None:
        """Open the card in the user's editor, then read it again."""
        from llmquiz.tui.editing import edit

        if self.turn is None or not edit(self.quiz, self.turn.card):
            return
        self.session.refresh()
        prompt = self.session.next()
        if prompt is None or prompt.schedule_id != self.turn.prompt.schedule_id:
            self.leave_card()
        else:
            self.turn.prompt = prompt
            self.draw()

    def written(self, write: Callable[[], Written]) -> Written | None:
        """What `write` returns; None after an error, which is shown."""
        try:
            return write()
        except StaleCardError as error:
            self.notify(str(error), severity="warning", timeout=8, markup=False)
            self.leave_card()
        except StoreError as error:
            from llmquiz.tui.screens.dialog import ErrorModal

            self.quiz.push_screen(ErrorModal(self.say("not_written"), str(error), self.say("not_written_hint")))
        return None


_NOTHING = Undone("", "", 0, None)
