"""Schema 11: note types, decks, presets and options are four JSON texts in the one row of `col`.

JSON of 16 MiB can become a gigabyte of Python: ``[[],[],…`` is 64 bytes for every three. So what begins or parts its
values is counted before it is parsed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from llmquiz.anki.archive.limits import MB, Limits
from llmquiz.anki.archive.untrusted import Database

_MARKS = '[{",'
_MARKS_PER_MB = 1 << 17


class Definitions(NamedTuple):
    """All but the rows: entries by id as JSON has them, and the options of the collection."""

    notetypes: Mapping[str, Any]
    decks: Mapping[str, Any]
    presets: Mapping[str, Any]
    options: Mapping[str, Any]


def definitions(database: Database, limits: Limits) -> Definitions:
    """The JSON columns of ``col``.

    Raises:
        ImportFileError: if one of them is no JSON object or they pass the limits.
    """
    texts = database.row("SELECT models, decks, dconf, conf FROM col NOT INDEXED")
    if texts is None:
        raise database.damaged("its table 'col' is empty")
    if sum(len(text) for text in texts if isinstance(text, str | bytes)) > limits.definitions_mb * MB:
        raise too_many(database, limits)
    columns = zip(("note types", "decks", "presets", "options"), texts, strict=True)
    marks = limits.definitions_mb * _MARKS_PER_MB
    return Definitions(*(_object(database, what, text, marks) for what, text in columns))


def too_many(database: Database, limits: Limits) -> Exception:
    """The error for definitions that pass the limit."""
    most = f"{limits.definitions_mb:,} MiB (limits.definitions_mb)"
    return database.error(f"its note types, decks and presets have more than {most}")


def _object(database: Database, what: str, text: object, marks: int) -> Mapping[str, Any]:
    try:
        value = parse(text, marks)
    except ValueError as error:
        raise database.damaged(f"its {what} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise database.damaged(f"its {what} are no JSON object")
    return value


def parse(text: object, marks: int = _MARKS_PER_MB) -> Any:
    """JSON that can be written again: without NaN, infinity and lone surrogates.

    Args:
        marks: the most brackets, quotes and commas it may have.

    Raises:
        ValueError: if it is none, or too deeply or too widely nested.
    """
    if not isinstance(text, str):
        raise ValueError("no text")
    if sum(map(text.count, _MARKS)) > marks:
        raise ValueError(f"more than {marks:,} values (limits.definitions_mb)")
    try:
        value = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON at character {error.pos:,}") from error
    except RecursionError as error:
        raise ValueError("too deeply nested") from error
    return _mended(value) if "\\ud" in text.lower() else value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"'{text[:20]}' is no number")
    return number


def _mended(value: Any) -> Any:
    """`value` with lone surrogates, which no file can hold, replaced; nested no deeper than the parser allows."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_mended(item) for item in value]
    if isinstance(value, dict):
        return {_mended(key): _mended(item) for key, item in value.items()}
    return value
