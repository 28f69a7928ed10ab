"""What a row of a library must be before it is let in: of the right types, JSON where the store keeps JSON, and safe.

SQLite's own checks are not enough. A strict table takes the text "12" for a number, and none looks into a card's text.
Control and bidirectional characters, with which a text could steer the terminal, are spelled out wherever a learner
would see them; in a name that other rows refer to they are refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from llmquiz.core.card import Card, CardText, Kind
from llmquiz.deck import reading
from llmquiz.exchange.libraryjson import Table
from llmquiz.store.codec import decode_card, is_bare

_TYPES = {"INTEGER": (int, type(None)), "REAL": (float, int, type(None)), "TEXT": (str, type(None))}
_WORDS = {"INTEGER": "a whole number", "REAL": "a number", "TEXT": "a text"}
_JSON: dict[str, dict[str, type]] = {
    "card": {"content": dict},
    "action": {"before": list},
    "run": {"params": dict, "versions": dict, "metrics": dict, "claims": object, "series": object, "tables": object},
    "anki_notetype": {"content": dict},
    "anki_preset": {"content": dict},
    "anki_deck": {"content": dict},
    "anki_card": {"kept": dict},
}
# Kept as it was, for Anki to have back or for a file's name to be found; never shown.
_KEPT = {
    "meta": ("value",),
    "media": ("name", "sha1"),
    "anki_notetype": ("content",),
    "anki_preset": ("content",),
    "anki_deck": ("content",),
    "anki_note": ("guid", "tags", "fields"),
    "anki_card": ("kept",),
}
_NAMES = frozenset({"id", "card", "deck", "key", "name", "topic"})
_INFINITE = (math.inf, -math.inf)
_ESCAPED = re.compile(r"\\[ubfr]")  # how JSON text may hold a control character, among others


class RowError(ValueError):
    """A row that cannot be let in; the message says why."""


class Trust:
    """Looks at the rows of one table.

    Args:
        spelled: is called with the column where control characters were spelled out.
        unrendered: is called with the id of a note that says nothing without its fields from Anki.
    """

    def __init__(self, table: Table, spelled: Callable[[str], None], unrendered: Callable[[str], None]) -> None:
        self._columns, self._spelled, self._unrendered = table.columns, spelled, unrendered
        self._known: set[tuple[type, ...]] = set()
        reals = [number for number, (_, kind) in enumerate(table.columns) if kind == "REAL"]
        json_types, kept = _JSON.get(table.name, {}), _KEPT.get(table.name, ())
        self._reals = reals
        self._json = [
            (number, name, json_types[name], name not in kept)
            for number, name in enumerate(table.names)
            if name in json_types
        ]
        self._shown = [
            (number, name)
            for number, (name, kind) in enumerate(table.columns)
            if kind == "TEXT" and name not in json_types and name not in kept
        ]
        self._is_card = table.name == "card"
        self._is_finite = table.name != "prediction"  # a guess may be anything

    def row(self, values: Any) -> list[Any]:
        """`values` as they may be stored.

        Raises:
            RowError: if they may not.
        """
        if not isinstance(values, list) or len(values) != len(self._columns):
            raise RowError(f"expected a list of {len(self._columns)} values")
        types = tuple(map(type, values))
        if types not in self._known:
            self._check_types(types)
        for number in self._reals:
            if types[number] is int:
                values[number] = _real(values[number])
            if self._is_finite and values[number] in _INFINITE:
                raise RowError(f"'{self._columns[number][0]}' is infinite")
        return values

    def safe(self, values: list[Any]) -> list[Any]:
        """The same with JSON looked through and control characters spelled out.

        Raises:
            RowError: if JSON is none, a card is none, or a name holds such a character.
        """
        for number, name in self._shown:
            if values[number] is not None and reading.has_forbidden(values[number]):
                if name in _NAMES:
                    raise RowError(f"control characters in '{name}'")
                values[number] = reading.printable(values[number])
                self._spelled(name)
        for number, name, kind, shown in self._json:
            if values[number] is not None:
                values[number] = self._json_text(name, values[number], kind, shown)
        if self._is_card:
            names = [name for name, _ in self._columns]
            card = _card(values[names.index("content")], values[names.index("id")])
            if any(is_bare(face) for text in card.texts.values() for face in text.faces):
                self._unrendered(card.id)
        return values

    def _check_types(self, types: tuple[type, ...]) -> None:
        for found, (name, kind) in zip(types, self._columns, strict=True):
            if found not in _TYPES[kind]:
                raise RowError(f"'{name}' is not {_WORDS[kind]}")
        self._known.add(types)

    def _json_text(self, name: str, text: str, kind: type, shown: bool) -> str:
        try:
            value = json.loads(text)
            if not isinstance(value, kind):
                raise RowError(f"'{name}' is JSON of another kind")
            if not shown or not (reading.has_forbidden(text) or _ESCAPED.search(text)):
                return text
            spelled = _spelled(value)
        except RecursionError as error:
            raise RowError(f"'{name}' is nested too deeply") from error
        except json.JSONDecodeError as error:
            raise RowError(f"'{name}' is not JSON") from error
        if spelled == value:
            return text
        self._spelled(name)
        return json.dumps(spelled, ensure_ascii=False, separators=(",", ":"))


def _real(value: int) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise RowError("a number is too large") from error


def _spelled(value: Any) -> Any:
    """`value` with every control character of its texts spelled out."""
    if isinstance(value, str):
        return reading.printable(value)
    if isinstance(value, list):
        return [_spelled(item) for item in value]
    if isinstance(value, dict):
        return {reading.printable(key): _spelled(item) for key, item in value.items()}
    return value


def _card(content: str, card_id: str) -> Card:
    try:
        card = decode_card(content)
        fits = _is_sound(card)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise RowError("'content' is not a card") from error
    if not fits or card.id != card_id:
        raise RowError("'content' is not the card of this id")
    return card


def _is_sound(card: Card) -> bool:
    """Whether all parts of a decoded card have their types; decoding takes them as they come."""
    lab = [card.lab.lab, card.lab.metric or "", *card.lab.params, *card.lab.params.values()] if card.lab else []
    checks = [part for check in card.checks for part in (check.expression, check.value)]
    words = [card.id, card.deck, card.topic, *card.tags, *card.follow_ups, *card.sources, *checks, *lab]
    return bool(card.texts) and _all_text(words) and all(_is_sound_text(it, card.kind) for it in card.texts.values())


def _is_sound_text(text: CardText, kind: Kind) -> bool:
    choices = [part for it in text.choices for part in (it.text, it.why)]
    faces = [part for it in text.faces for part in (it.front, it.back)]
    words = [text.front, text.answer, text.detail, text.pitfall, *text.key_points, *text.symbols, *choices, *faces]
    return (
        _all_text(words)
        and all(type(choice.right) is bool for choice in text.choices)
        and all(type(face.ordinal) is int for face in text.faces)
        and (kind is not Kind.NOTE or bool(text.faces))
        and (kind is not Kind.CHOICE or bool(text.choices))
    )


def _all_text(words: Sequence[Any]) -> bool:
    return all(type(word) is str for word in words)
