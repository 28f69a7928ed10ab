"""The topics of the syllabus: slugs and their names, from `topics.toml` beside the shipped decks."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

from llmquiz import locations
from llmquiz.core.card import Lang
from llmquiz.core.errors import DeckError, Place


def load(path: Path | None = None) -> dict[str, Mapping[Lang, str]]:
    """Names of each topic by its slug, in the order of the file; empty where there is no file.

    Raises:
        DeckError: if the file is not TOML of that shape.
    """
    path = path or locations.shipped("decks") / "topics.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DeckError(Place(path, 1), f"cannot be read as TOML: {error}") from error
    try:
        return {slug: {lang: str(names[lang.value]) for lang in Lang} for slug, names in table.items()}
    except (TypeError, KeyError, AttributeError) as error:
        raise DeckError(Place(path, 1), 'a topic is written slug = { en = "…", zh = "…" }') from error
