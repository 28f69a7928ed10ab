"""How much of a stranger's file may be read: bytes are counted as they come out, whatever the file says of itself.

A package of 35 KB can hold a gigabyte of zeros, and a media map of a gigabyte fits into one of a megabyte; so the
limits speak of what comes out, and reading stops where one is passed. `[limits]` in the settings file raises them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from llmquiz.core.errors import SettingsError

MB = 1 << 20
KB = 1 << 10
_MOST = 1 << 40


@dataclass(frozen=True, slots=True)
class Limits:
    """What a package and its collection may hold.

    Attributes:
        total_mb: MiB of the collection and all media, unpacked.
        file_mb: MiB of one file, unpacked.
        files: entries of the archive, and of its media map.
        ratio: unpacked size over packed size, for files of more than 16 MiB.
        media_map_mb: MiB of the map of media names.
        definitions_mb: MiB of all note types, decks and presets together.
        field_kb: KiB of one field of a note; a note with a longer one is left out.
        notes, cards, reviews: rows.
    """

    total_mb: int = 2048
    file_mb: int = 512
    files: int = 100_000
    ratio: int = 200
    media_map_mb: int = 16
    definitions_mb: int = 16
    field_kb: int = 1024
    notes: int = 2_000_000
    cards: int = 4_000_000
    reviews: int = 20_000_000

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Limits from a settings table; what it does not name keeps its default.

        Raises:
            SettingsError: for an unknown name or a value that is no whole number above zero.
        """
        known = sorted(field.name for field in fields(cls))
        for name, value in values.items():
            if name not in known:
                raise SettingsError(f"limits: unknown limit '{name}'; known are {', '.join(known)}")
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST:
                raise SettingsError(f"limits: {name} must be a whole number above 0, not {value!r}")
        return cls(**values)
