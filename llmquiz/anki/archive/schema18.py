"""Schema 18: note types, decks and presets are tables with protobuf columns, brought into the JSON form of schema 11.

Fields and templates have tables of their own, and a name of a deck parts its levels by U+001F.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from llmquiz.anki.archive import entries
from llmquiz.anki.archive.entries import Entry
from llmquiz.anki.archive.limits import MB, Limits
from llmquiz.anki.archive.schema11 import Definitions, parse, too_many
from llmquiz.anki.archive.untrusted import Database
from llmquiz.anki.archive.wire import Message, WireError

_LEVEL_END = "\x1f"
_NOTETYPES = "SELECT id, name, config, mtime_secs, usn FROM notetypes NOT INDEXED"
_FIELDS = "SELECT ntid, name, config, ord FROM fields NOT INDEXED ORDER BY ntid, ord"
_TEMPLATES = "SELECT ntid, name, config, ord FROM templates NOT INDEXED ORDER BY ntid, ord"
_DECKS = "SELECT id, name, kind, common, mtime_secs, usn FROM decks NOT INDEXED"
_PRESETS = "SELECT id, name, config, mtime_secs, usn FROM deck_config NOT INDEXED"
_OPTIONS = "SELECT KEY, val FROM config NOT INDEXED WHERE KEY IN ('rollover', 'creationOffset', 'schedVer')"


def definitions(database: Database, limits: Limits) -> Definitions:
    """The tables of definitions as entries of JSON.

    Raises:
        ImportFileError: if a column is no such message, or they pass the limits.
    """
    reader = _Reader(database, limits)
    try:
        return Definitions(reader.notetypes(), reader.decks(), reader.presets(), reader.options())
    except WireError as error:
        raise database.damaged(f"its note types, decks or presets cannot be read: {error}") from error


class _Reader:
    def __init__(self, database: Database, limits: Limits) -> None:
        self._database = database
        self._limits = limits
        self._left = limits.definitions_mb * MB

    def notetypes(self) -> dict[str, Entry]:
        fields, templates = self._parts(_FIELDS, entries.field), self._parts(_TEMPLATES, entries.template)
        return {
            str(id_): {
                **entries.notetype(Message(config)),
                **_identity(id_, name, modified, usn),
                "flds": fields.get(id_, []),
                "tmpls": templates.get(id_, []),
            }
            for id_, name, config, modified, usn in self._rows(_NOTETYPES)
        }

    def decks(self) -> dict[str, Entry]:
        return {
            str(id_): {
                **entries.deck(Message(kind), Message(common)),
                **_identity(id_, name.replace(_LEVEL_END, "::"), modified, usn),
            }
            for id_, name, kind, common, modified, usn in self._rows(_DECKS, blobs=2)
        }

    def presets(self) -> dict[str, Entry]:
        return {
            str(id_): {**entries.preset(Message(config)), **_identity(id_, name, modified, usn)}
            for id_, name, config, modified, usn in self._rows(_PRESETS)
        }

    def options(self) -> dict[str, Any]:
        found = {}
        for key, value in self._database.rows(_OPTIONS):
            try:
                found[key] = parse(value.decode() if isinstance(value, bytes) and len(value) < 100 else None)
            except ValueError:  # its default will do
                continue
        return found

    def _parts(self, sql: str, made: Callable[[Message], Entry]) -> dict[int, list[Entry]]:
        parts: dict[int, list[Entry]] = {}
        for notetype, name, config, ordinal in self._rows(sql):
            parts.setdefault(notetype, []).append({**made(Message(config)), "name": name, "ord": ordinal})
        return parts

    def _rows(self, sql: str, blobs: int = 1) -> Iterator[tuple[Any, ...]]:
        """Rows of an id, a name, so many messages, and integers."""
        for row in self._database.rows(sql):
            self._left -= sum(len(value) for value in row if isinstance(value, str | bytes)) + 100
            if self._left < 0:
                raise too_many(self._database, self._limits)
            if [type(value) for value in row] != [int, str, *[bytes] * blobs, *[int] * (len(row) - 2 - blobs)]:
                raise self._database.damaged("its note types, decks or presets have columns of the wrong type")
            yield row


def _identity(id_: int, name: str, modified: int, usn: int) -> Entry:
    return {"id": id_, "name": name, "mod": modified, "usn": usn}
