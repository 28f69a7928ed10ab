"""Cards and decks in a line, and a clock that stands still until it is told to move."""

from __future__ import annotations

from datetime import UTC

from llmquiz.core.card import Card, CardText, Choice, Deck, Frequency, Kind, Lang, Level, NoteFace
from llmquiz.core.day import Calendar

CALENDAR = Calendar(zone=UTC)
NOON = 1_790_000_000 // 86_400 * 86_400 + 12 * 3600
DAY = 86_400


class FrozenClock:
    """Unix seconds; `clock.now` may be set."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def pass_days(self, days: float) -> None:
        self.now += days * DAY


def make_card(
    card_id: str, deck: str = "deck", *, answer: str = "because", chinese: str = "", **fields: object
) -> Card:
    """An open card in English, in both languages if `chinese` is given."""
    texts = {Lang.EN: CardText(f"Why {card_id}?", answer)}
    if chinese:
        texts[Lang.ZH] = CardText(chinese, "因为")
    values: dict[str, object] = {
        "topic": "topic",
        "kind": Kind.OPEN,
        "level": Level.L1,
        "frequency": Frequency.HIGH,
        "texts": texts,
    }
    return Card(id=card_id, deck=deck, **(values | fields))  # type: ignore[arg-type]


def make_cloze(card_id: str, count: int, deck: str = "deck") -> Card:
    """A cloze card with so many deletions."""
    answer = " ".join(f"{{{{c{number}::part {number}}}}}" for number in range(1, count + 1))
    return make_card(card_id, deck, answer=answer, kind=Kind.CLOZE)


def make_choice(card_id: str, deck: str = "deck") -> Card:
    """A choice card with four choices, the first of them right."""
    choices = tuple(Choice(f"choice {number}", number == 0, "a slip") for number in range(4))
    texts = {Lang.EN: CardText(f"Which {card_id}?", "the first", choices=choices)}
    return make_card(card_id, deck, kind=Kind.CHOICE, texts=texts)


def make_note(card_id: str, *faces: tuple[str, str], deck: str = "deck") -> Card:
    """A note with these fronts and backs."""
    sides = tuple(NoteFace(ordinal, front, back) for ordinal, (front, back) in enumerate(faces))
    texts = {Lang.EN: CardText(faces[0][0].partition("\n")[0], "", faces=sides)}
    return make_card(card_id, deck, kind=Kind.NOTE, texts=texts)


def make_deck(*cards: Card, deck: str = "deck", position: int = 0) -> Deck:
    """A deck of these cards."""
    return Deck(deck, {Lang.EN: deck.title()}, cards, position=position)
