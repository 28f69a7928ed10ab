"""What a user may set, in `config.toml` of the settings folder.

```toml
language = "both"            # en, zh or both
theme = "textual-dark"

[schedule]
desired_retention = 0.9
new_per_day = 20

[keys]
"study.reveal" = "space"

[limits]                     # of files that are imported; see docs/import-anki.md
total_mb = 4096
```
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmquiz import locations
from llmquiz.core.errors import SettingsError

LANGUAGES = ("en", "zh", "both")
_KNOWN = frozenset({"language", "theme", "schedule", "keys", "rollover_hour", "editor", "limits"})


@dataclass(frozen=True, slots=True)
class Settings:
    """The user's settings; every one has a default.

    Attributes:
        language: which texts a card shows: ``en``, ``zh`` or ``both``.
        theme: name of a theme of the TUI; None lets the TUI choose.
        schedule: fields of `llmquiz.core.options.Options` that the user changed.
        keys: binding id -> keys, for the TUI.
        rollover_hour: local hour at which the study day starts.
        limits: fields of `llmquiz.anki.archive.limits.Limits` that the user changed.
        editor: command that opens a deck file, before ``$VISUAL`` and ``$EDITOR``.
    """

    language: str = "en"
    theme: str | None = None
    schedule: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    rollover_hour: int = 4
    editor: str | None = None


def load(path: Path | None = None) -> Settings:
    """The settings of `path` (default: the user's file); defaults where there is no file.

    Raises:
        SettingsError: if the file cannot be read, is not TOML, or holds an unknown name or a wrong value.
    """
    path = path or locations.settings_file()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Settings(language=_system_language())
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from error
    import tomllib

    try:
        fields = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not TOML: {error}") from error
    return _checked({"language": _system_language(), **fields}, path)


def _checked(fields: dict[str, Any], path: Path) -> Settings:
    if unknown := sorted(fields.keys() - _KNOWN):
        raise SettingsError(f"{path}: unknown setting '{unknown[0]}'; known are {', '.join(sorted(_KNOWN))}")
    if fields["language"] not in LANGUAGES:
        raise SettingsError(f"{path}: language '{fields['language']}' is not one of {', '.join(LANGUAGES)}")
    hour = fields.get("rollover_hour", 4)
    if not isinstance(hour, int) or isinstance(hour, bool) or not 0 <= hour <= 23:
        raise SettingsError(f"{path}: rollover_hour must be a whole number from 0 to 23, not {hour!r}")
    tables = [(name, dict) for name in ("schedule", "keys", "limits")]
    for name, kind in (*tables, ("theme", str), ("editor", str)):
        if name in fields and not isinstance(fields[name], kind):
            expected = "a table" if kind is dict else "text"
            raise SettingsError(f"{path}: '{name}' must be {expected}, not {fields[name]!r}")
    return Settings(**fields)


def _system_language() -> str:
    import os

    for variable in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(variable):
            return "zh" if value.startswith("zh") else "en"
    return "en"
