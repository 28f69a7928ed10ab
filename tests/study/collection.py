"""A small collection at a frozen clock: a card of each kind, in two decks."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from llmquiz.core.card import Card, CardText, Choice, Deck, Frequency, Kind, LabLink, Lang, Level
from llmquiz.core.day import Calendar
from llmquiz.core.options import Options
from llmquiz.core.rating import Rating
from llmquiz.store import Store
from llmquiz.study.session import Scope, Session

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
DAY = 86_400


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: float = NOON

    def __call__(self) -> float:
        return self.now


@dataclass
class Collection:
    """A store with its clock, and sessions over it. Nothing is random: intervals carry no fuzz."""

    store: Store
    clock: Clock = field(default_factory=Clock)
    options: Options = field(default_factory=lambda: Options(fuzz=False))
    calendar: Calendar = field(default_factory=lambda: Calendar(zone=UTC))

    def session(self, **scope: object) -> Session:
        return Session(
            self.store,
            self.options,
            scope=Scope(**scope),  # type: ignore[arg-type]
            calendar=self.calendar,
            clock=self.clock,
        )

    def answer(self, card: str, rating: Rating, *, seconds: float = 8.0) -> None:
        """Answer `card` now, whether it is due or not."""
        session = self.session(card=card)
        assert session.next() is not None
        session.rate(rating, duration_ms=int(1000 * seconds))


def card(
    name: str, kind: Kind = Kind.OPEN, *, topic: str = "attention", deck: str = "transformer", **fields: object
) -> Card:
    return Card(
        id=name,
        deck=deck,
        topic=topic,
        kind=kind,
        level=Level.L1,
        frequency=Frequency.HIGH,
        texts=fields.pop("texts"),  # type: ignore[arg-type]
        **fields,  # type: ignore[arg-type]
    )


OPEN = card(
    "scale",
    texts={
        Lang.EN: CardText(
            "Why divide by $\\sqrt{d_k}$?",
            "It keeps the **variance** at one.",
            detail="- softmax stays soft\n- gradients live\n\n```python\nscores / d_k**0.5\n```",
            key_points=("variance is d_k", "softmax saturates", "gradients vanish"),
            pitfall="It is not for speed.",
            symbols=("$d_k$: width of a head",),
        ),
        Lang.ZH: CardText("为什么除以 $\\sqrt{d_k}$？", "使方差保持为一。", key_points=("方差", "饱和", "梯度")),
    },
    sources=("Vaswani et al. 2017, <https://arxiv.org/abs/1706.03762>",),
)
CLOZE = card(
    "weights",
    Kind.CLOZE,
    texts={Lang.EN: CardText("Weights", "Weights are the {{c1::softmax::function}} of scores.")},
)
CHOICE = card(
    "cache-size",
    Kind.CHOICE,
    topic="kv-cache",
    deck="inference",
    texts={
        Lang.EN: CardText(
            "How large is the cache?",
            "Two tensors of eight heads.",
            choices=(
                Choice("128 KiB", True),
                Choice("512 KiB", False, "Counts the query heads."),
                Choice("64 KiB", False, "Forgets the values."),
            ),
        )
    },
)
PREDICT = card(
    "speedup",
    Kind.PREDICT,
    topic="kv-cache",
    deck="inference",
    texts={Lang.EN: CardText("How much faster is it?", "As much as the context is long.")},
    lab=LabLink("toy", {"size": "4"}, "speedup"),
)
DECKS = (
    Deck("transformer", {Lang.EN: "Transformer", Lang.ZH: "变换器"}, (OPEN, CLOZE), position=1),
    Deck("inference", {Lang.EN: "Inference"}, (CHOICE, PREDICT), position=2),
)
