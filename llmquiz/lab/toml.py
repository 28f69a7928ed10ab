"""A strict reader of TOML tables: every key must be asked for, and every error names the file and the key.

TOML lets a key hold any character as an escape, a number have any size and tables nest without end, so the keys and
numbers of a stranger's file are looked at before one of them is put into a message.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from llmquiz.core.card import Lang
from llmquiz.core.errors import ManifestError

MAX_BYTES = 64 * 1024
MAX_TEXT = 2000
MAX_ENTRIES = 64
MAX_DEPTH = 8
_MAX_DOTS = 200  # in a line: the time that tomllib takes for a dotted key grows with the square of its parts
_MAX_INTEGER = 2**63  # as TOML has it
_AT_LINE = re.compile(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column \d+|end of document)\)")


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of `path`.

    Raises:
        ManifestError: if it is not a small UTF-8 file of TOML; the message names the line where that is known.
    """
    try:
        if not path.is_file():
            raise ManifestError(f"{path}: no such file; a lab's folder holds lab.toml and lab.py")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ManifestError(f"{path}: longer than {MAX_BYTES // 1024} KiB; shorten it")
        if any(line.count(b".") > _MAX_DOTS for line in content.split(b"\n")):
            raise ManifestError(f"{path}: a line with more than {_MAX_DOTS} dots; break it")
        tables = tomllib.loads(content.decode("utf-8"))
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ManifestError(f"{path}:{line}: not UTF-8; save it as UTF-8") from error
    except RecursionError as error:
        raise ManifestError(f"{path}: nested too deeply; flatten it") from error
    except (tomllib.TOMLDecodeError, ValueError) as error:
        raise ManifestError(f"{path}{_toml_problem(error, content)}") from error
    if problem := _unfit(tables):
        raise ManifestError(f"{path}: {problem}")
    return tables


def _unfit(tables: dict[str, Any]) -> str | None:
    """What of a file no message could hold: it is looked through without recursion, for it may nest without end."""
    layer: list[Any] = [tables]
    for _ in range(MAX_DEPTH):
        keys = [key for value in layer if isinstance(value, dict) for key in value]
        if bad := next((key for key in keys if not key.isprintable()), None):
            return f"{bad[:40]!a}: a key has no control characters; rename it"
        if any(isinstance(value, int) and not -_MAX_INTEGER <= value < _MAX_INTEGER for value in layer):
            return "a whole number of more than 64 bits; write a smaller one"
        groups = [it.values() if isinstance(it, dict) else it for it in layer if isinstance(it, dict | list)]
        layer = [item for group in groups for item in group]
        if not layer:
            return None
    return "nested too deeply; flatten it"


def _toml_problem(error: ValueError, content: bytes) -> str:
    """``:3: not TOML: invalid value``; without a line where the error does not tell one."""
    match = _AT_LINE.fullmatch(str(error))
    if match is None:
        return f": not TOML: {error}"
    line = match["line"] or content.rstrip().count(b"\n") + 1
    return f":{line}: not TOML: {match['what'][:1].lower()}{match['what'][1:]}"


class Table:
    """A TOML table whose keys are taken one by one; `finish` refuses what nobody asked for."""

    def __init__(self, fields: Mapping[str, Any], path: Path, key: str = "") -> None:
        self._fields = fields
        self._path = path
        self._key = key
        self._asked: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._fields

    def error(self, key: str, problem: str) -> ManifestError:
        """The error that says where: file and key path."""
        where = ".".join(part for part in (self._key, key) if part)
        return ManifestError(f"{self._path}: {where}: {problem}" if where else f"{self._path}: {problem}")

    def finish(self) -> None:
        """Refuse keys that nobody asked for."""
        if unknown := sorted(self._fields.keys() - self._asked):
            raise self.error(unknown[0][:40], f"unknown key; known here are {', '.join(sorted(self._asked))}")

    def value(self, key: str) -> object:
        """What stands under `key`, which must be there."""
        self._asked.add(key)
        if key not in self._fields:
            raise self.error(key, "missing")
        return self._fields[key]

    def text(self, key: str, default: str = "") -> str:
        """One line of printable text."""
        self._asked.add(key)
        value = self._fields.get(key, default)
        if not isinstance(value, str) or not value.isprintable() or len(value) > MAX_TEXT:
            raise self.error(key, f"expected one line of text without control characters, at most {MAX_TEXT} long")
        return value

    def texts(self, key: str, *, required: bool = False) -> Mapping[Lang, str]:
        """A text in each language, English first: ``{ en = "…", zh = "…" }``."""
        table = self.table(key)
        found = {lang: table.text(lang.value) for lang in Lang if lang.value in table}
        table.finish_known({lang.value for lang in Lang})
        if (required or found) and not found.get(Lang.EN):
            raise self.error(key, 'expected { en = "…", zh = "…" } with at least English')
        return MappingProxyType(found)

    def finish_known(self, known: set[str]) -> None:
        """As `finish`, where `known` keys may be left out."""
        self._asked |= known
        self.finish()

    def choice(self, key: str, options: tuple[str, ...], default: str | None = None) -> str:
        """One of `options`."""
        self._asked.add(key)
        value = self._fields.get(key, default)
        if value not in options:
            problem = "missing" if value is None else f"{str(value)[:40]!r} is not known"
            raise self.error(key, f"{problem}; expected one of {', '.join(options) or '(none declared)'}")
        return str(value)

    def number(self, key: str, *, default: float, low: float, high: float) -> float:
        """A finite number from `low` to `high`."""
        self._asked.add(key)
        value = self._fields.get(key, default)
        if not _is_number(value) or not low <= value <= high:
            raise self.error(key, f"expected a number from {low:g} to {high:g}")
        return float(value)

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        """A list of `count` finite numbers."""
        self._asked.add(key)
        value = self._fields.get(key)
        if not isinstance(value, list) or len(value) != count or not all(map(_is_number, value)):
            raise self.error(key, f"expected a list of {count} numbers")
        return tuple(value)

    def words(self, key: str, pattern: re.Pattern[str] | None = None) -> tuple[str, ...]:
        """A list of different words, each of `pattern`; empty where the key is left out."""
        self._asked.add(key)
        value = self._fields.get(key, [])
        if not isinstance(value, list) or len(value) > MAX_ENTRIES:
            raise self.error(key, f"expected a list of at most {MAX_ENTRIES} words")
        for word in value:
            fits = isinstance(word, str) and word and word.isprintable() and len(word) <= MAX_TEXT
            if not fits or (pattern and not pattern.fullmatch(word)):
                raise self.error(key, f"{str(word)[:40]!r} is not a name that fits here")
        if len(set(value)) < len(value):
            raise self.error(key, "a word stands there twice")
        return tuple(value)

    def table(self, key: str) -> Table:
        """The table under `key`, empty where it is left out."""
        self._asked.add(key)
        value = self._fields.get(key, {})
        where = ".".join(part for part in (self._key, key) if part)
        if not isinstance(value, dict):
            raise self.error(key, "expected a table")
        return Table(value, self._path, where)

    def tables(self, key: str, names: re.Pattern[str]) -> Iterator[tuple[str, Table]]:
        """The tables below `key` with their names, in the order of the file."""
        below = self.table(key)
        if len(below._fields) > MAX_ENTRIES:
            raise self.error(key, f"more than {MAX_ENTRIES} entries")
        for name in below._fields:
            if not names.fullmatch(name):
                raise below.error(name[:40], f"a name here must match {names.pattern}")
            yield name, below.table(name)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
