"""A protobuf column of schema 18 → the entry that schema 11 has in JSON, without its id, name and times.

The two forms mean the same and are not spelled the same: the order of new cards is 1 where it was 0, "autoplay" was
"do not autoplay", a desired retention of 0.88 was 88. What an add-on kept in an entry travels in field 255 as JSON.
Field numbers: the `.proto` files of Anki (https://github.com/ankitects/anki/tree/main/proto/anki).

Raises, all of them: WireError if a field of the message is of another type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmquiz.anki.archive.schema11 import parse
from llmquiz.anki.archive.wire import Message

_OTHER = 255
_REQUIREMENTS = ("none", "any", "all")

Entry = dict[str, Any]


def _other(message: Message) -> Mapping[str, Any]:
    """What add-ons keep beside Anki's own keys."""
    raw = message.data(_OTHER)
    if not raw:
        return {}
    try:
        value = parse(raw.decode("utf-8", "replace"))
    except ValueError:  # Anki, too, reads on without it
        return {}
    return value if isinstance(value, dict) else {}


def notetype(config: Message) -> Entry:
    """The config of a note type, without its fields and templates."""
    entry = {
        "type": config.unsigned(1),
        "sortf": config.unsigned(2),
        "did": config.signed(4) or None,
        "css": config.text(3),
        "latexPre": config.text(5),
        "latexPost": config.text(6),
        "latexsvg": bool(config.unsigned(7)),
        "req": [_requirement(requirement) for requirement in config.messages(8)],
    }
    if stock := config.unsigned(9):
        entry["originalStockKind"] = stock
    if 10 in config:
        entry["originalId"] = config.signed(10)
    return {**_other(config), **entry}


def _requirement(message: Message) -> list[Any]:
    kind = message.unsigned(2)
    return [message.unsigned(1), _REQUIREMENTS[kind] if kind < len(_REQUIREMENTS) else "none", message.integers(3)]


def field(config: Message) -> Entry:
    """The config of a field."""
    return {
        **_other(config),
        "sticky": bool(config.unsigned(1)),
        "rtl": bool(config.unsigned(2)),
        "font": config.text(3),
        "size": config.unsigned(4),
        "description": config.text(5),
        "plainText": bool(config.unsigned(6)),
        "collapsed": bool(config.unsigned(7)),
        "excludeFromSearch": bool(config.unsigned(8)),
        "id": config.signed(9) if 9 in config else None,
        "tag": config.unsigned(10) if 10 in config else None,
        "preventDeletion": bool(config.unsigned(11)),
    }


def template(config: Message) -> Entry:
    """The config of a template."""
    return {
        **_other(config),
        "qfmt": config.text(1),
        "afmt": config.text(2),
        "bqfmt": config.text(3),
        "bafmt": config.text(4),
        "did": config.signed(5) or None,
        "bfont": config.text(6),
        "bsize": config.unsigned(7),
        "id": config.signed(8) if 8 in config else None,
    }


def deck(kind: Message, common: Message) -> Entry:
    """A deck, whose two columns hold what all decks have and what its kind has."""
    day = common.unsigned(3)
    counts = {"newToday": 4, "revToday": 5, "lrnToday": 6, "timeToday": 7}
    return {
        **_other(common),
        **{key: [day, common.signed(number)] for key, number in counts.items()},
        "collapsed": bool(common.unsigned(1)),
        "browserCollapsed": bool(common.unsigned(2)),
        **(_filtered(kind.message(2)) if 2 in kind else _normal(kind.message(1))),
    }


def _normal(deck: Message) -> Entry:
    return {
        "dyn": 0,
        "desc": deck.text(4),
        **({"md": True} if deck.unsigned(5) else {}),
        "conf": deck.signed(1),
        "extendNew": deck.unsigned(2),
        "extendRev": deck.unsigned(3),
        "reviewLimit": deck.unsigned(6) if 6 in deck else None,
        "newLimit": deck.unsigned(7) if 7 in deck else None,
        "reviewLimitToday": _day_limit(deck, 8),
        "newLimitToday": _day_limit(deck, 9),
        "desiredRetention": round(deck.single(10) * 100) if 10 in deck else None,
    }


def _day_limit(deck: Message, number: int) -> Entry | None:
    if number not in deck:
        return None
    limit = deck.message(number)
    return {"limit": limit.unsigned(1), "today": limit.unsigned(2)}


def _filtered(deck: Message) -> Entry:
    return {
        "dyn": 1,
        "desc": "",
        "resched": bool(deck.unsigned(1)),
        "terms": [[term.text(1), term.unsigned(2), term.unsigned(3)] for term in deck.messages(2)],
        "separate": True,
        "delays": deck.singles(3) or None,
        "previewDelay": deck.unsigned(4),
        "previewAgainSecs": deck.unsigned(7),
        "previewHardSecs": deck.unsigned(5),
        "previewGoodSecs": deck.unsigned(6),
    }


def preset(config: Message) -> Entry:
    """The config of a preset."""
    other = dict(_other(config))
    nested = {key: value for key in ("new", "rev", "lapse") if isinstance(value := other.pop(key, None), dict)}
    entry = {
        **other,
        "maxTaken": config.unsigned(24),
        "autoplay": not config.unsigned(23),
        "timer": config.unsigned(25),
        "replayq": not config.unsigned(26),
        "new": {
            "bury": bool(config.unsigned(27)),
            "delays": config.singles(1),
            "initialFactor": round(config.single(11) * 1000),
            "ints": [config.unsigned(18), config.unsigned(19), 0],
            "order": 0 if config.unsigned(20) else 1,
            "perDay": config.unsigned(9),
        },
        "rev": {
            "bury": bool(config.unsigned(28)),
            "ease4": config.single(12),
            "ivlFct": config.single(15),
            "maxIvl": config.unsigned(16),
            "perDay": config.unsigned(10),
            "hardFactor": config.single(13),
        },
        "lapse": {
            "delays": config.singles(2),
            "leechAction": config.unsigned(21),
            "leechFails": config.unsigned(22),
            "minInt": config.unsigned(17),
            "mult": config.single(14),
        },
        "dyn": False,
        "newMix": config.unsigned(30),
        "newPerDayMinimum": config.unsigned(35),
        "interdayLearningMix": config.unsigned(31),
        "reviewOrder": config.unsigned(33),
        "newSortOrder": config.unsigned(32),
        "newGatherPriority": config.unsigned(34),
        "buryInterdayLearning": bool(config.unsigned(29)),
        "fsrsWeights": config.singles(3),
        "fsrsParams5": config.singles(5),
        "fsrsParams6": config.singles(6),
        "desiredRetention": config.single(37),
        "ignoreRevlogsBeforeDate": config.text(46),
        "easyDaysPercentages": config.singles(4),
        "stopTimerOnAnswer": bool(config.unsigned(38)),
        "secondsToShowQuestion": config.single(41),
        "secondsToShowAnswer": config.single(42),
        "questionAction": config.unsigned(36),
        "answerAction": config.unsigned(43),
        "waitForAudio": bool(config.unsigned(44)),
        "sm2Retention": config.single(40),
        "weightSearch": config.text(45),
    }
    return entry | {key: {**value, **entry[key]} for key, value in nested.items()}
