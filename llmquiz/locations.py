"""Where things lie: the content that is shipped, and the user's data, settings, cache and logs.

`LLMQUIZ_HOME` moves all of the user's folders below one folder; without it the platform's own places are used.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

HOME_VARIABLE = "LLMQUIZ_HOME"


def shipped(kind: str) -> Path:
    """The folder of shipped ``decks`` or ``labs``: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    packed = package / "_data" / kind
    return packed if packed.is_dir() else package.parent / kind


def user_decks() -> Path:
    """Decks that the user wrote; same shape as the shipped ones."""
    return data_dir() / "decks"


def user_labs() -> Path:
    """Labs that the user wrote; same shape as the shipped ones."""
    return data_dir() / "labs"


def database() -> Path:
    """Cards' schedules, reviews and lab runs."""
    return data_dir() / "llmquiz.db"


def media() -> Path:
    """Pictures and sounds of imported notes, by name."""
    return data_dir() / "media"


def settings_file() -> Path:
    """The user's settings, TOML; it need not exist."""
    return _folder("config", "user_config_path") / "config.toml"


def data_dir() -> Path:
    """What must never be lost."""
    return _folder("data", "user_data_path")


def cache_dir() -> Path:
    """What can be made again."""
    return _folder("cache", "user_cache_path")


def log_dir() -> Path:
    """What labs and libraries printed."""
    return _folder("log", "user_log_path")


def _folder(name: str, platform_name: str) -> Path:
    home = os.environ.get(HOME_VARIABLE)
    return Path(home).expanduser() / name if home else _platform_folder(platform_name)


@cache
def _platform_folder(platform_name: str) -> Path:
    import platformdirs

    folder: Path = getattr(platformdirs, platform_name)("llmquiz", appauthor=False)
    return folder
