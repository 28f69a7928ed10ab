"""The line mode: studying through a pipe, a screen reader or a dumb terminal. One thing a line, no colour, no cursor.

It reads a line and does what the line says; Enter shows the answer, then a number rates it. Prompts appear only where
a person types (`Plain.interactive`), so that what a pipe gets is cards and answers alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TextIO, TypeAlias

from llmquiz.core.card import Card, Kind
from llmquiz.core.day import SYSTEM_CLOCK, Clock
from llmquiz.core.errors import ExitCode, LlmquizError
from llmquiz.core.rating import Rating
from llmquiz.study import grading
from llmquiz.study.session import Prompt, Session
from llmquiz.study.speaker import Speaker
from llmquiz.study.waiting import sentences
from llmquiz.study.words import interval, listed, rating_word, shown, word

Say: TypeAlias = Callable[[str], None]
_RATINGS = {
    text: rating
    for rating in Rating
    for text in (str(rating.value), rating.name.lower(), *(rating_word(rating, lang) for lang in shown("both")))
}


@dataclass(frozen=True, slots=True)
class Tools:
    """What a session can do beyond the store. Each may be missing.

    Attributes:
        edit: lets the user change the card; afterwards the store has its new content.
        measure: runs the card's lab with the learner's guess, says what happens, returns the suggested rating.
    """

    edit: Callable[[Card, Say], None] | None = None
    measure: Callable[[Card, float | None, Say], Rating | None] | None = None


def run(
    session: Session,
    stdin: TextIO,
    stdout: TextIO,
    language: str = "en",
    *,
    tools: Tools | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> ExitCode:
    """Study until nothing is due, the input ends or the user quits; Ctrl+C gives `ExitCode.INTERRUPTED`.

    Args:
        language: ``en``, ``zh`` or ``both``.
        clock: Unix seconds; the same as the session's.
    """
    return Plain(session, stdin, Speaker(stdout, language), tools or Tools(), clock).run()


@dataclass(slots=True)
class _Turn:
    """Where the present card stands; `over` when another one is to be asked, or this one anew."""

    prompt: Prompt
    shown_at: float
    revealed: bool = False
    suggested: Rating | None = None
    guess: float | None = None
    over: bool = False


class _Quit(Exception):  # noqa: N818 - not an error, the way out of the loop
    """The user wants to leave."""


@dataclass(slots=True)
class Plain:
    """A session in lines. See `run`."""

    session: Session
    stdin: TextIO
    speaker: Speaker
    tools: Tools
    clock: Clock
    interactive: bool = field(init=False)

    def __post_init__(self) -> None:
        self.interactive = self.stdin.isatty()

    def run(self) -> ExitCode:
        """Study; returns the exit code."""
        code = ExitCode.OK
        try:
            with suppress(_Quit):
                self._study()
        except KeyboardInterrupt:
            self.speaker.say("")
            self.speaker.tell("interrupted")
            code = ExitCode.INTERRUPTED
        self.speaker.tell("answered", n=self.session.answered)
        return code

    def _study(self) -> None:
        counts = self.session.counts
        if self.session.next() is not None:
            self.speaker.tell("counts", new=counts.new, learning=counts.learning, review=counts.review)
        while True:
            while (prompt := self.session.next()) is not None:
                self._ask(prompt)
            for line in sentences(self.session, self.clock(), self.speaker.lang):
                self.speaker.say(line)
            self._offer_undo()

    def _offer_undo(self) -> None:
        """The last answer of a session can be taken back too; anything else ends it."""
        if self.session.answered and self.interactive:
            self.speaker.tell("undo_or_leave")
        if not self.session.answered or _COMMANDS.get(self._read()) is not Plain._undo:
            raise _Quit
        self._take_back()

    def _ask(self, prompt: Prompt) -> None:
        """Show the card and obey lines until the turn is over."""
        turn = _Turn(prompt, self.clock())
        self.speaker.question(prompt, self.session.answered + 1)
        if self.interactive:
            self.speaker.invitation(prompt)
        while not turn.over:
            line = self._read()
            try:
                self._obey(turn, line)
            except LlmquizError as error:
                self.speaker.say(f"llmquiz: error: {error}")
                turn.over = self.session.next() is not turn.prompt

    def _read(self) -> str:
        if self.interactive:
            self.speaker.stdout.write("> ")
            self.speaker.stdout.flush()
        self.session.prepare()
        line = self.stdin.readline()
        if not line:
            raise _Quit
        return line.strip()

    def _obey(self, turn: _Turn, line: str) -> None:
        name, _, rest = line.partition(" ")
        command = _COMMANDS.get(name.casefold())
        if command is not None:
            command(self, turn, rest.strip())
        elif turn.revealed:
            self._obey_rating(turn, line)
        else:
            self._obey_attempt(turn, line)

    def _obey_rating(self, turn: _Turn, line: str) -> None:
        rating = _RATINGS.get(line.casefold()) if line else turn.suggested
        if rating is not None:
            self._rate(turn, rating)
        elif line:
            self.speaker.tell("unknown_command", text=line)
        else:
            self._invite_rating(turn)

    def _obey_attempt(self, turn: _Turn, line: str) -> None:
        """A line before the answer was shown: Enter, or what this kind of card asks for."""
        attempt = _ATTEMPTS.get(turn.prompt.card.kind)
        if not line:
            self._reveal(turn)
        elif attempt is not None:
            attempt(self, turn, line)
        elif line.casefold() in _RATINGS:
            self.speaker.tell("reveal_first")
        else:
            self.speaker.tell("unknown_command", text=line)

    def _reveal(self, turn: _Turn) -> None:
        turn.revealed = True
        self.speaker.answer(turn.prompt)
        if self.interactive:
            self._invite_rating(turn)

    def _invite_rating(self, turn: _Turn) -> None:
        if turn.suggested is None:
            self.speaker.tell("rate_it")
        else:
            self.speaker.suggest("rate_suggested", turn.suggested)
        if self._points(turn):
            self.speaker.tell("tick")

    def _rate(self, turn: _Turn, rating: Rating) -> None:
        rated = self.session.rate(rating, duration_ms=int(1000 * (self.clock() - turn.shown_at)))
        turn.over = True
        self.speaker.suggest("rated", rating, interval=interval(rated.outcome, self.speaker.lang))
        if rated.leech:
            self.speaker.tell("rated_leech", n=rated.outcome.schedule.lapses)
        if rated.suspended:
            self.speaker.tell("now_suspended")

    def _pick(self, turn: _Turn, line: str) -> None:
        card, order = turn.prompt.card, turn.prompt.choice_order
        if not line.isdecimal() or not 1 <= int(line) <= len(order):
            self.speaker.tell("bad_choice", n=len(order))
            return
        pick = grading.picked(card, order, int(line), self.speaker.card_lang(card))
        self._attempted(turn, "picked_right" if pick.right else "picked_wrong", pick.rating)

    def _fill_in(self, turn: _Turn, line: str) -> None:
        card = turn.prompt.card
        hidden = grading.hidden_words(card, turn.prompt.ordinal, self.speaker.card_lang(card))
        rating = grading.typed_rating(line, hidden)
        key = {Rating.GOOD: "typed_equal", Rating.HARD: "typed_close"}.get(rating, "typed_other")
        self._attempted(turn, key, rating)

    def _attempted(self, turn: _Turn, key: str, rating: Rating) -> None:
        turn.suggested = rating
        self.speaker.suggest(key, rating)
        self._reveal(turn)

    def _guess(self, turn: _Turn, line: str) -> None:
        try:
            turn.guess = grading.guess(line)
        except ValueError:
            self.speaker.tell("bad_guess", text=line)
            return
        self.speaker.tell("your_guess", guess=f"{turn.guess:g}")
        self.speaker.tell("guess_waits")

    def _undo(self, turn: _Turn, rest: str) -> None:
        turn.over = self._take_back()

    def _take_back(self) -> bool:
        undone = self.session.undo()
        if undone is None:
            self.speaker.tell("nothing_to_undo")
            return False
        lang = self.speaker.lang
        what = rating_word(undone.rating, lang) if undone.rating else word(undone.kind, lang).lower()
        self.speaker.tell("undone", what=listed((undone.card_id, what), lang))
        return True

    def _suspend(self, turn: _Turn, rest: str) -> None:
        self.session.suspend()
        self.speaker.tell("now_suspended")
        turn.over = True

    def _bury(self, turn: _Turn, rest: str) -> None:
        self.session.bury()
        self.speaker.tell("now_buried")
        turn.over = True

    def _flag(self, turn: _Turn, rest: str) -> None:
        flag = rest or ("0" if turn.prompt.flag else "1")
        if flag not in tuple("01234567"):
            self.speaker.tell("bad_flag")
            return
        self.session.flag(int(flag))
        self.speaker.tell("now_flagged" if int(flag) else "now_unflagged", flag=flag)
        turn.prompt = self.session.next() or turn.prompt

    def _lab(self, turn: _Turn, rest: str) -> None:
        card = turn.prompt.card
        if card.lab is None or self.tools.measure is None:
            self.speaker.tell("no_lab")
        elif card.kind is Kind.PREDICT and turn.guess is None and not turn.revealed:
            self.speaker.tell("guess_first", metric=card.lab.metric)
        else:
            turn.suggested = self.tools.measure(card, turn.guess, self.speaker.say) or turn.suggested

    def _edit(self, turn: _Turn, rest: str) -> None:
        if self.tools.edit is None:
            self.speaker.tell("no_editor")
            return
        self.tools.edit(turn.prompt.card, self.speaker.say)
        self.session.refresh()
        self.speaker.tell("reloaded")
        turn.over = True

    def _tick(self, turn: _Turn, rest: str) -> None:
        total = self._points(turn)
        ticked = set(rest.replace(",", " ").split())
        if not turn.revealed:
            self.speaker.tell("reveal_first")
        elif not total:
            self.speaker.tell("no_points")
        elif not ticked <= {str(number) for number in range(1, total + 1)}:
            self.speaker.tell("bad_points", n=total)
        else:
            turn.suggested = grading.key_points_rating(len(ticked), total)
            self.speaker.suggest("ticked", turn.suggested, count=len(ticked), total=total)

    def _repeat(self, turn: _Turn, rest: str) -> None:
        self.speaker.question(turn.prompt, self.session.answered + 1)
        if turn.revealed:
            self.speaker.answer(turn.prompt)

    def _help(self, turn: _Turn, rest: str) -> None:
        self.speaker.help(turn.prompt, revealed=turn.revealed, suggested=turn.suggested is not None)

    def _quit(self, turn: _Turn, rest: str) -> None:
        raise _Quit

    def _points(self, turn: _Turn) -> int:
        card = turn.prompt.card
        return len(card.text(self.speaker.card_lang(card)).key_points)


_Handler: TypeAlias = Callable[[Plain, _Turn, str], None]
_ATTEMPTS: dict[Kind, _Handler] = {Kind.CHOICE: Plain._pick, Kind.PREDICT: Plain._guess, Kind.CLOZE: Plain._fill_in}
_COMMANDS: dict[str, _Handler] = {
    name: handler
    for names, handler in (
        ("u undo", Plain._undo),
        ("s suspend", Plain._suspend),
        ("b bury", Plain._bury),
        ("f flag", Plain._flag),
        ("l lab", Plain._lab),
        ("e edit", Plain._edit),
        ("p points", Plain._tick),
        ("r repeat", Plain._repeat),
        ("? h help", Plain._help),
        ("q quit", Plain._quit),
    )
    for name in names.split()
}
