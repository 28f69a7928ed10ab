"""How interviewers chain topics: ordered links from `chains.toml` beside the shipped decks."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from llmquiz import locations
from llmquiz.core.card import Lang
from llmquiz.core.errors import DeckError, Place
from llmquiz.deck import topics
from llmquiz.deck.topics import Names


class Ask(StrEnum):
    """What a link asks of its topic."""

    RECALL = "recall"
    DERIVE = "derive"
    COMPUTE = "compute"
    CODE = "code"
    DEBUG = "debug"
    DESIGN = "design"


@dataclass(frozen=True, slots=True)
class Link:
    """A topic, what is asked of it, and the answer that sounds right but is not."""

    topic: str
    ask: Ask
    trap: Names | None = None


@dataclass(frozen=True, slots=True)
class Chain:
    """From the opener to the probe that separates levels."""

    titles: Names
    links: tuple[Link, ...]


def load(path: Path | None = None) -> dict[str, Chain]:
    """Chains by name, in the order of the file; none where there is no file.

    Raises:
        DeckError: if the file is not TOML of that shape, or a link's topic is not of the syllabus.
    """
    path = path or locations.shipped("decks") / "chains.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DeckError(Place(path, 1), f"cannot be read as TOML: {error}") from error
    known = topics.load().topics
    chains: dict[str, Chain] = {}
    for name, entry in table.items():
        try:
            chains[name] = Chain(_names(entry["title"]), tuple(_link(link, known) for link in entry["links"]))
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            problem = f'chain {name}: {error}; a link is written {{ topic = "…", kind = "recall" }}'
            raise DeckError(Place(path, 1), problem) from error
    return chains


def _names(entry: Mapping[str, Any]) -> Names:
    return {lang: str(entry[lang.value]) for lang in Lang}


def _link(entry: Mapping[str, Any], known: Mapping[str, object]) -> Link:
    if entry["topic"] not in known:
        raise ValueError(f"no topic '{entry['topic']}' in topics.toml")
    return Link(entry["topic"], Ask(entry["kind"]), _names(entry["trap"]) if "trap" in entry else None)
