"""What all screens share: themes, the user's keys, languages, small terminals."""

from __future__ import annotations

import pytest

from llmquiz.tui import themes
from llmquiz.tui.app import run

from .conftest import Desk
from .seen import press, screen_text, study, told


@pytest.mark.parametrize(
    ("environ", "theme"),
    [
        ({"TERM": "xterm-256color"}, "llmquiz-dark"),
        ({"TERM": "xterm-256color", "COLORFGBG": "0;15"}, "llmquiz-light"),
        ({"TERM": "xterm-256color", "COLORFGBG": "15;0"}, "llmquiz-dark"),
        ({"TERM": "xterm-256color", "COLORFGBG": "12;default;8"}, "llmquiz-dark"),
        ({"TERM": "linux"}, "ansi-dark"),
        ({"TERM": "vt220", "COLORFGBG": "0;7"}, "ansi-light"),
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, "llmquiz-dark"),
        ({}, "llmquiz-dark"),
    ],
)
def test_the_terminal_chooses_the_theme_that_nobody_chose(environ: dict[str, str], theme: str) -> None:
    assert themes.default_theme(environ) == theme


def contrast(a: str, b: str) -> float:
    """WCAG 2.1 contrast ratio of two colours."""
    from textual.color import Color

    def luminance(color: str) -> float:
        parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in Color.parse(color).normalized]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", themes.OWN, ids=lambda theme: theme.name)
def test_text_can_be_read_in_our_themes(theme) -> None:
    for name in ("foreground", "primary", "secondary", "accent", "success", "warning", "error"):
        assert contrast(getattr(theme, name), theme.background) >= 4.5, name
    for name in ("muted", "code"):
        assert contrast(theme.variables[name], theme.background) >= 4.5, name
        assert contrast(theme.variables[name], theme.surface) >= 4.5, name


@pytest.mark.slow
async def test_every_theme_of_textual_can_be_used(desk: Desk) -> None:
    app = desk.study("sdpa-scale")
    async with app.run_test() as pilot:
        await press(pilot, "space")
        for name in app.available_themes:
            app.theme = name
            await pilot.pause()
            assert "Key points" in screen_text(app)


async def test_an_unknown_theme_is_told_and_replaced(desk: Desk) -> None:
    async with desk.home(theme="neon").run_test(notifications=True) as pilot:
        await pilot.pause()
        assert pilot.app.theme == "llmquiz-dark"
        await told(pilot, "'neon' is not known")


async def test_a_key_that_the_user_moved_works_and_is_shown(desk: Desk) -> None:
    async with desk.study("sdpa-scale", keys={"study.reveal": "r", "study.good": "g"}).run_test() as pilot:
        assert "r  show answer" in screen_text(pilot.app)
        await press(pilot, "space")
        assert not study(pilot.app).turn.revealed
        await press(pilot, "r")
        assert "g Good" in screen_text(pilot.app)
        await press(pilot, "g")
    assert desk.reviews() == [("sdpa-scale", 3)]


async def test_an_unknown_key_id_is_told_and_the_others_still_work(desk: Desk) -> None:
    app = desk.study("sdpa-scale", keys={"study.jump": "j", "study.reveal": "r"})
    async with app.run_test(notifications=True) as pilot:
        await pilot.pause()
        await told(pilot, "study.jump")
        await press(pilot, "r")
        assert study(app).turn.revealed


@pytest.mark.parametrize("size", [(29, 12), (40, 7), (10, 3)])
async def test_a_terminal_that_is_too_small_says_so_and_loses_nothing(desk: Desk, size: tuple[int, int]) -> None:
    async with desk.study("sdpa-scale").run_test(size=(80, 24)) as pilot:
        await press(pilot, "space")
        await pilot.resize_terminal(*size)
        await pilot.pause()
        assert "too" in screen_text(pilot.app)
        assert "scores" not in screen_text(pilot.app)
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "variance" in screen_text(pilot.app)
        assert study(pilot.app).turn.revealed


@pytest.mark.parametrize("size", [(80, 24), (40, 12), (30, 12), (120, 40), (200, 60)])
@pytest.mark.parametrize("language", ["en", "zh"])
async def test_question_choices_and_keys_are_seen_at_every_size(
    desk: Desk, size: tuple[int, int], language: str
) -> None:
    async with desk.study("kv-bytes", language=language).run_test(size=size) as pilot:
        text = screen_text(pilot.app)
        rows = text.splitlines()
        assert "Llama" in text
        assert any("4 KiB" in row for row in rows)
        if size != (30, 12):
            assert all(f" {letter}  " in text for letter in "abcd")
        assert "a-d" in text
        assert "?" in rows[-1]
        await press(pilot, "a")
        text = screen_text(pilot.app)
        assert all(f"{number} " in text for number in range(1, 5))
        assert "10m" in text


async def test_the_language_of_the_settings_is_that_of_the_interface(desk: Desk) -> None:
    async with desk.home(language="zh").run_test() as pilot:
        text = screen_text(pilot.app)
        assert "注意力" in text
        assert "今日待学" in text
        assert "11月22日 周日" in text


async def test_the_language_turns_everywhere(desk: Desk) -> None:
    async with desk.home().run_test() as pilot:
        await press(pilot, "t")
        assert "注意力" in screen_text(pilot.app)
        await press(pilot, "enter", "t")
        assert "为什么注意力" in screen_text(pilot.app)
        assert "Why are attention" in screen_text(pilot.app)


def test_a_fault_is_raised_and_not_spilled_over_the_terminal(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(self) -> None:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr("llmquiz.tui.screens.home.HomeScreen.relabel", broken)
    with pytest.raises(ZeroDivisionError, match="a fault of ours"):
        run(desk.services(), headless=True)
    assert capfd.readouterr() == ("", "")


async def test_a_screen_below_has_followed_the_window_when_one_comes_back(desk: Desk) -> None:
    async with desk.home().run_test(size=(100, 30)) as pilot:
        await press(pilot, "enter")
        await pilot.resize_terminal(40, 12)
        await press(pilot, "q")
        assert "learned" not in screen_text(pilot.app)
        assert {"-narrow", "-short"} <= pilot.app.screen.classes
