"""The JSON mode: a session driven by a program, one JSON object a line each way. Documented in ``docs/json.md``.

Every request gets exactly one response, in order. One that cannot be obeyed gets an error object and changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, TextIO

from llmquiz.core.card import Card, Kind, Lang
from llmquiz.core.day import SYSTEM_CLOCK, Clock
from llmquiz.core.errors import ExitCode, LlmquizError
from llmquiz.core.rating import Rating
from llmquiz.core.scheduler import Outcome
from llmquiz.study import cardtext, grading
from llmquiz.study.session import Prompt, Session
from llmquiz.study.waiting import coming
from llmquiz.study.words import shown

PROTOCOL = 1
_RATINGS = {key: rating for rating in Rating for key in (rating.value, rating.name.lower())}


class RequestError(LlmquizError):
    """A request that is not one of the protocol's, or does not fit the present card."""

    exit_code = ExitCode.USAGE


def run(
    session: Session, stdin: TextIO, stdout: TextIO, language: str = "en", *, clock: Clock = SYSTEM_CLOCK
) -> ExitCode:
    """Answer requests until ``quit`` or the end of the input; `clock` is the session's."""
    mode = JsonLines(session, language, clock)
    for line in stdin:
        if line.strip():
            response = mode.answer(line)
            stdout.write(json.dumps(response, ensure_ascii=False) + "\n")
            stdout.flush()
            session.prepare()
            if response.get("do") == "quit" and response["ok"]:
                break
    return ExitCode.OK


@dataclass(slots=True)
class JsonLines:
    """Turns a request line into a response. See `run`."""

    session: Session
    language: str
    clock: Clock
    _asked: int | None = field(default=None, init=False)
    _shown_at: float = field(default=0.0, init=False)

    def answer(self, line: str) -> dict[str, Any]:
        """The response to the request `line`."""
        do = None
        try:
            request = _request(line)
            do = request["do"]
            return {"ok": True, "do": do, **_HANDLERS[do](self, request)}
        except LlmquizError as error:
            return {"ok": False, "do": do, "error": {"type": type(error).__name__, "message": str(error)}}

    def _next(self, request: Mapping[str, Any]) -> dict[str, Any]:
        prompt = self.session.next()
        if prompt is None:
            next_up = coming(self.session, self.clock())
            day = None if next_up.day is None else _iso(next_up.day)
            return {"card": None, "next_due": next_up.at, "next_day": day, "new_left": next_up.new}
        self._start_clock(prompt)
        return {"card": self._front(prompt)}

    def _reveal(self, request: Mapping[str, Any]) -> dict[str, Any]:
        prompt = self._prompt()
        self._start_clock(prompt)
        return {"card": {**self._front(prompt), **self._back(prompt)}}

    def _rate(self, request: Mapping[str, Any]) -> dict[str, Any]:
        prompt = self._prompt()
        if "card" in request and request["card"] != prompt.card.id:
            raise RequestError(f"card '{request['card']}' is not the present card, which is '{prompt.card.id}'")
        rating = _RATINGS.get(_field(request, "rating", (str, int)))
        if rating is None:
            raise RequestError(f"rating {request['rating']!r} is not one of 1-4 or again, hard, good, easy")
        self._start_clock(prompt)
        spent = _field(request, "duration_ms", (int,), int(1000 * (self.clock() - self._shown_at)))
        rated = self.session.rate(rating, duration_ms=spent)
        self._asked = None
        return {
            "card": rated.card_id,
            "rating": rating.name.lower(),
            "next": _outcome(rated.outcome),
            "leech": rated.leech,
            "suspended": rated.suspended,
            "buried_siblings": rated.buried_siblings,
        }

    def _grade(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What an answer suggests, without rating the card."""
        prompt = self._prompt()
        lang = cardtext.languages_of(prompt.card, shown(self.language))[0]
        try:
            rating = _graded(prompt, request, lang)
        except ValueError as error:
            raise RequestError(str(error)) from error
        return {"card": prompt.card.id, "suggested": rating.name.lower()}

    def _undo(self, request: Mapping[str, Any]) -> dict[str, Any]:
        undone = self.session.undo()
        self._asked = None
        if undone is None:
            return {"undone": None, "card": None}
        return {"undone": undone.kind, "card": undone.card_id}

    def _suspend(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._prompt()
        return {"card": self.session.suspend().card_id}

    def _bury(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._prompt()
        return {"card": self.session.bury().card_id}

    def _flag(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._prompt()
        flag = _field(request, "flag", (int,))
        if not 0 <= flag <= 7:
            raise RequestError(f"flag {flag} is not one of 0-7")
        flagged = self.session.flag(flag)
        return {"card": flagged.card_id, "flag": flagged.flag}

    def _counts(self, request: Mapping[str, Any]) -> dict[str, Any]:
        counts = self.session.counts
        return {
            "new": counts.new,
            "learning": counts.learning,
            "review": counts.review,
            "answered": self.session.answered,
        }

    def _quit(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return {"answered": self.session.answered}

    def _prompt(self) -> Prompt:
        prompt = self.session.next()
        if prompt is None:
            raise RequestError("there is no card now; ask for 'next' to see when one is due")
        return prompt

    def _start_clock(self, prompt: Prompt) -> None:
        """The time of an answer runs from the first request that shows its card."""
        if prompt.schedule_id != self._asked:
            self._asked, self._shown_at = prompt.schedule_id, self.clock()

    def _front(self, prompt: Prompt) -> dict[str, Any]:
        card = prompt.card
        return {
            "id": card.id,
            "ordinal": prompt.ordinal,
            "deck": card.deck,
            "topic": card.topic,
            "kind": card.kind.value,
            "level": card.level.value,
            "frequency": card.frequency.value,
            "state": prompt.schedule.state.name.lower(),
            "flag": prompt.flag,
            "leech": prompt.leech,
            "lab": _lab(card),
            "texts": {lang: self._asked_text(prompt, lang) for lang in self._langs(prompt)},
            "ratings": {rating.name.lower(): _outcome(outcome) for rating, outcome in prompt.outcomes.items()},
        }

    def _asked_text(self, prompt: Prompt, lang: Lang) -> dict[str, Any]:
        question = cardtext.question_markdown(prompt.card, prompt.ordinal, lang)
        choices = prompt.card.text(lang).choices
        return {"question": question, "choices": [choices[index].text for index in prompt.choice_order]}

    def _back(self, prompt: Prompt) -> dict[str, Any]:
        return {
            "texts": {lang: {**self._asked_text(prompt, lang), **_told(prompt, lang)} for lang in self._langs(prompt)},
            "follow_ups": list(prompt.card.follow_ups),
            "sources": list(prompt.card.sources),
            "as_of": prompt.card.as_of.isoformat() if prompt.card.as_of else None,
        }

    def _langs(self, prompt: Prompt) -> tuple[Lang, ...]:
        return cardtext.languages_of(prompt.card, shown(self.language))


def _request(line: str) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"request is not JSON: {str(error).lower()}") from error
    do = request.get("do") if isinstance(request, dict) else None
    if not isinstance(do, str) or do not in _HANDLERS:
        raise RequestError(f"request has no 'do' among {', '.join(sorted(_HANDLERS))}")
    known: dict[str, Any] = request
    return known


_MISSING = object()


def _field(request: Mapping[str, Any], name: str, kinds: tuple[type, ...], default: Any = _MISSING) -> Any:
    value = request.get(name, default)
    if value is _MISSING:
        raise RequestError(f"request '{request['do']}' needs '{name}'")
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise RequestError(
            f"'{name}' must be {' or '.join(_TYPES[kind] for kind in kinds)}, not {json.dumps(value)[:40]}"
        )
    return value


_TYPES: dict[type, str] = {int: "a whole number", str: "text", float: "a number", list: "a list"}


def _graded(prompt: Prompt, request: Mapping[str, Any], lang: Lang) -> Rating:
    card = prompt.card
    if card.kind is Kind.CHOICE:
        return grading.picked(card, prompt.choice_order, _field(request, "choice", (int,)), lang).rating
    if card.kind is Kind.CLOZE:
        return grading.typed_rating(_field(request, "typed", (str,)), grading.hidden_words(card, prompt.ordinal, lang))
    if card.kind is Kind.PREDICT:
        raise RequestError(f"card '{card.id}' is graded by its lab; run 'llmquiz lab' with its parameters")
    points = len(card.text(lang).key_points)
    ticked = _field(request, "points", (list,))
    if not set(map(repr, ticked)) <= {repr(number) for number in range(1, points + 1)}:
        raise ValueError(f"points are a list of numbers from 1 to {points}")
    return grading.key_points_rating(len(set(ticked)), points)


def _told(prompt: Prompt, lang: Lang) -> dict[str, Any]:
    text = prompt.card.text(lang)
    return {
        "answer": cardtext.answer_markdown(prompt.card, prompt.ordinal, lang),
        "key_points": list(text.key_points),
        "pitfall": text.pitfall,
        "symbols": list(text.symbols),
        "right": [number for number, index in enumerate(prompt.choice_order, 1) if text.choices[index].right],
        "why": [text.choices[index].why for index in prompt.choice_order],
    }


def _lab(card: Card) -> dict[str, Any] | None:
    if card.lab is None:
        return None
    return {"name": card.lab.lab, "params": dict(card.lab.params), "metric": card.lab.metric}


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {"label": outcome.label, "seconds": outcome.delay_seconds, "days": outcome.interval_days}


def _iso(day: int) -> str:
    return date.fromordinal(day).isoformat()


_Handler = Callable[[JsonLines, Mapping[str, Any]], dict[str, Any]]
_HANDLERS: dict[str, _Handler] = {
    "next": JsonLines._next,
    "reveal": JsonLines._reveal,
    "grade": JsonLines._grade,
    "rate": JsonLines._rate,
    "undo": JsonLines._undo,
    "suspend": JsonLines._suspend,
    "bury": JsonLines._bury,
    "flag": JsonLines._flag,
    "counts": JsonLines._counts,
    "quit": JsonLines._quit,
}
