"""Settings are optional, checked, and say where they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmquiz import locations, settings
from llmquiz.core.errors import SettingsError


def write(text: str) -> Path:
    path = locations.settings_file()
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_everything_has_a_default() -> None:
    assert settings.load() == settings.Settings()


@pytest.mark.parametrize(("lang", "expected"), [("zh_CN.UTF-8", "zh"), ("de_DE.UTF-8", "en"), ("C", "en")])
def test_the_language_is_that_of_the_system_unless_set(
    lang: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANG", lang)
    assert settings.load().language == expected
    write('language = "both"')
    assert settings.load().language == "both"


def test_all_settings_are_read() -> None:
    write(
        'language = "zh"\ntheme = "llmquiz-light"\nrollover_hour = 5\neditor = "vim"\n'
        '[schedule]\nnew_per_day = 5\n[keys]\n"study.undo" = "z"\n[limits]\nfiles = 7\n'
    )
    assert settings.load() == settings.Settings(
        "zh", "llmquiz-light", {"new_per_day": 5}, {"study.undo": "z"}, {"files": 7}, 5, "vim"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("language =", "not TOML"),
        ('colour = "red"', "unknown setting 'colour'; known are"),
        ('language = "fr"', "language 'fr' is not one of en, zh, both"),
        ("rollover_hour = 24", "rollover_hour must be a whole number from 0 to 23, not 24"),
        ("rollover_hour = true", "rollover_hour must be a whole number"),
        ("theme = 3", "'theme' must be text"),
        ("keys = 3", "'keys' must be a table"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(text: str, problem: str) -> None:
    path = write(text)
    with pytest.raises(SettingsError) as error:
        settings.load()
    assert str(error.value).startswith(f"{path}: {problem}")


def test_a_file_that_is_no_text() -> None:
    write("").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="cannot be read"):
        settings.load()


def test_home_moves_everything(home: Path) -> None:
    places = (
        locations.database(),
        locations.user_decks(),
        locations.user_labs(),
        locations.settings_file(),
        locations.cache_dir(),
        locations.log_dir(),
    )
    assert all(place.is_relative_to(home) for place in places)
