"""A card as JSON text and back. Places in files are left out: they change with every edit above them.

A note of Anki's is stored without what it says: its front is empty here and its faces are numbers; both are made of the
note's fields when it is shown (see `llmquiz.store.faces`). A face that was rendered elsewhere is stored whole.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from json.encoder import encode_basestring as _quoted
from typing import Any

from llmquiz.core.card import Card, CardText, Check, Choice, Frequency, Kind, LabLink, Lang, Level, NoteFace

# A dictionary finds a member of an enumeration in a fraction of the time that a call takes; each card needs five.
_KINDS = {kind.value: kind for kind in Kind}
_LEVELS = {level.value: level for level in Level}
_FREQUENCIES = {frequency.value: frequency for frequency in Frequency}
_LANGS = {lang.value: lang for lang in Lang}


def encode_card(card: Card) -> str:
    """`card` as JSON; the same card gives the same text. Empty parts are left out."""
    return json.dumps(_fields(card), ensure_ascii=False, separators=(",", ":"))


def decode_card(text: str) -> Card:
    """The card that `encode_card` wrote."""
    raw = json.loads(text)
    lab = raw.get("lab")
    as_of = raw.get("as_of")
    return Card(
        id=raw["id"],
        deck=raw["deck"],
        topic=raw["topic"],
        kind=_KINDS[raw["kind"]],
        level=_LEVELS[raw["level"]],
        frequency=_FREQUENCIES[raw["frequency"]],
        texts={_LANGS[lang]: _text(fields) for lang, fields in raw["texts"].items()},
        tags=tuple(raw.get("tags", ())),
        lab=LabLink(lab["lab"], lab.get("params", {}), lab.get("metric")) if lab else None,
        follow_ups=tuple(raw.get("follow_ups", ())),
        sources=tuple(raw.get("sources", ())),
        checks=tuple(Check(*pair) for pair in raw.get("checks", ())),
        as_of=date.fromisoformat(as_of) if as_of else None,
    )


def digest(card: Card) -> str:
    """A fingerprint of what the card says; the deck that it lies in is no part of that."""
    return fingerprint(encode_card(card), card.deck)


def fingerprint(content: str, deck: str, fields: str = "") -> str:
    """The `digest` of a card that was encoded in `deck`; `fields` are those of a note that is rendered later."""
    from hashlib import blake2b  # a sitting decodes cards and needs no digest

    before, _, after = content.partition(f'"deck":{_quoted(deck)},')
    return blake2b(f"{before}{after}{fields}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def is_bare(face: NoteFace) -> bool:
    """Whether the face is of a note whose faces are rendered later."""
    return not (face.front or face.back)


def encode_note(card_id: str, deck: str, topic: str, lang: str, ordinals: Sequence[int], tags: Sequence[str]) -> str:
    """As `encode_card`, for a note whose faces are rendered later; an import writes ten thousand of them."""
    return f'{{"id":{_quoted(card_id)},{_noted(deck, topic, lang, tuple(ordinals), tuple(tags))}'


@lru_cache(maxsize=256)
def _noted(deck: str, topic: str, lang: str, ordinals: tuple[int, ...], tags: tuple[str, ...]) -> str:
    """What many notes have in common."""
    tagged = f',"tags":[{",".join(map(_quoted, tags))}]' if tags else ""
    return (
        f'"deck":{_quoted(deck)},"topic":{_quoted(topic)},"kind":"note","level":"L1","frequency":"medium",'
        f'"texts":{{"{lang}":{{"front":"","answer":"","faces":[{",".join(map(str, ordinals))}]}}}}{tagged}}}'
    )


def _fields(card: Card) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": card.id,
        "deck": card.deck,
        "topic": card.topic,
        "kind": card.kind.value,
        "level": card.level.value,
        "frequency": card.frequency.value,
        "texts": {lang.value: _text_fields(text) for lang, text in sorted(card.texts.items())},
        "tags": card.tags,
        "lab": _lab_fields(card.lab) if card.lab else None,
        "follow_ups": card.follow_ups,
        "sources": card.sources,
        "checks": [(check.expression, check.value) for check in card.checks],
        "as_of": card.as_of.isoformat() if card.as_of else None,
    }
    return {name: value for name, value in fields.items() if value}


def _text_fields(text: CardText) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "detail": text.detail,
        "key_points": text.key_points,
        "pitfall": text.pitfall,
        "choices": [(choice.text, choice.right, choice.why) for choice in text.choices],
        "symbols": text.symbols,
        "faces": [face.ordinal if is_bare(face) else (face.ordinal, face.front, face.back) for face in text.faces],
    }
    return {"front": text.front, "answer": text.answer, **{name: value for name, value in fields.items() if value}}


def _lab_fields(lab: LabLink) -> dict[str, Any]:
    fields: dict[str, Any] = {"lab": lab.lab, "params": dict(sorted(lab.params.items())), "metric": lab.metric}
    return {name: value for name, value in fields.items() if value}


def _text(raw: dict[str, Any]) -> CardText:
    return CardText(
        front=raw["front"],
        answer=raw["answer"],
        detail=raw.get("detail", ""),
        key_points=tuple(raw.get("key_points", ())),
        pitfall=raw.get("pitfall", ""),
        choices=tuple([Choice(*fields) for fields in raw.get("choices", ())]),
        symbols=tuple(raw.get("symbols", ())),
        faces=tuple([NoteFace(it, "", "") if isinstance(it, int) else NoteFace(*it) for it in raw.get("faces", ())]),
    )
