"""The syllabus: its areas and topics, from `topics.toml` beside the shipped decks."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmquiz import locations
from llmquiz.core.card import Frequency, Lang
from llmquiz.core.errors import DeckError, Place

Names = Mapping[Lang, str]


@dataclass(frozen=True, slots=True)
class Topic:
    """What cards may be about.

    Attributes:
        priority: how often interviewers ask about it.
        beyond: whether the notes behind the syllabus lack it.
    """

    names: Names
    area: str
    priority: Frequency
    beyond: bool = False


@dataclass(frozen=True, slots=True)
class Syllabus:
    """Areas and topics by their slugs, in the order of the file."""

    areas: Mapping[str, Names] = field(default_factory=dict)
    topics: Mapping[str, Topic] = field(default_factory=dict)


def load(path: Path | None = None) -> Syllabus:
    """The syllabus; an empty one where there is no file.

    Raises:
        DeckError: if the file is not TOML of that shape.
    """
    path = path or locations.shipped("decks") / "topics.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Syllabus()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DeckError(Place(path, 1), f"cannot be read as TOML: {error}") from error
    try:
        areas = {slug: _names(names) for slug, names in table["areas"].items()}
        return Syllabus(areas, {slug: _topic(entry, areas) for slug, entry in table["topics"].items()})
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        shape = 'slug = { en = "…", zh = "…", area = "…", priority = "high" }'
        raise DeckError(Place(path, 1), f"a topic is written {shape}, its area under [areas]: {error}") from error


def _names(entry: Mapping[str, Any]) -> Names:
    return {lang: str(entry[lang.value]) for lang in Lang}


def _topic(entry: Mapping[str, Any], areas: Mapping[str, Names]) -> Topic:
    if entry["area"] not in areas:
        raise ValueError(f"no area '{entry['area']}'")
    return Topic(_names(entry), entry["area"], Frequency(entry["priority"]), bool(entry.get("beyond", False)))
