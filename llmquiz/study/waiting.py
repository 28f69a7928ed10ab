"""When nothing is due: when the next card is, and what else is left to do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from llmquiz.core.card import Lang
from llmquiz.core.schedule import State
from llmquiz.study.session import Scope, Session
from llmquiz.study.words import duration, word


@dataclass(frozen=True, slots=True)
class Coming:
    """What comes next in a session's scope.

    Attributes:
        at: Unix seconds at which the next card in learning is due, None if none is.
        day: study day after today on which the next review is due, None if none is.
        new: new cards that were not shown yet.
        cards: all cards that could come at all.
    """

    at: float | None
    day: int | None
    new: int
    cards: int


def coming(session: Session, now: float) -> Coming:
    """What comes next, seen from the instant `now`."""
    today = session.calendar.day(now)
    where, values = _within(session.scope)
    row = session.store.connection.execute(_COMING.format(where=where), {"today": today, **values}).fetchone()
    at, day, new, cards = row
    return Coming(at, day, new or 0, cards)


def sentences(session: Session, now: float, lang: Lang) -> list[str]:
    """The same in words, for a session that has no card to show."""
    next_up = coming(session, now)
    if not next_up.cards:
        return [word("empty", lang)]
    lines = [word("all_done" if session.answered else "nothing_due", lang)]
    if next_up.at is not None:
        lines.append(word("next_due_in", lang, time=duration(max(next_up.at - now, 60), lang)))
    elif next_up.day is not None:
        lines.append(word("next_due_on", lang, date=date.fromordinal(next_up.day).isoformat()))
    if next_up.new and session.options.new_per_day:
        lines.append(word("come_back", lang))
    return lines


def _within(scope: Scope) -> tuple[str, dict[str, str]]:
    """The scope as a condition on cards."""
    if scope.card:
        return "card.id = :card", {"card": scope.card}
    conditions, values = ["1"], {}
    for column, wanted in (("deck", scope.decks), ("topic", scope.topics)):
        names = {f"{column}{number}": value for number, value in enumerate(wanted)}
        if names:
            conditions.append(f"card.{column} IN ({', '.join(f':{name}' for name in names)})")
            values.update(names)
    return " AND ".join(conditions), values


_COMING = f"""
SELECT min(CASE WHEN state IN ({State.LEARNING:d}, {State.RELEARNING:d}) THEN schedule.due END),
       min(CASE WHEN state = {State.REVIEW:d} AND schedule.due > :today THEN schedule.due END),
       sum(state = {State.NEW:d}), count(*)
FROM schedule JOIN card ON card.id = schedule.card WHERE suspended = 0 AND retired = 0 AND {{where}}
"""
