"""How an editor is told the file and the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmquiz.core.errors import Place, UsageError
from llmquiz.settings import Settings
from llmquiz.study.edit import command, editable, editor

PLACE = Place(Path("/decks/kv cache.en.md"), 41)


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        ("vi", ["vi", "+41", "/decks/kv cache.en.md"]),
        ("/usr/bin/nvim -u NONE", ["/usr/bin/nvim", "-u", "NONE", "+41", "/decks/kv cache.en.md"]),
        ("nano", ["nano", "+41", "/decks/kv cache.en.md"]),
        ("emacs -nw", ["emacs", "-nw", "+41", "/decks/kv cache.en.md"]),
        ("code", ["code", "--wait", "-g", "/decks/kv cache.en.md:41"]),
        ("code --wait", ["code", "--wait", "-g", "/decks/kv cache.en.md:41"]),
        ("hx", ["hx", "/decks/kv cache.en.md:41"]),
        ("'/opt/my editor/ed'", ["/opt/my editor/ed", "/decks/kv cache.en.md"]),
    ],
)
def test_each_editor_is_told_the_line_in_its_own_way(configured: str, expected: list[str]) -> None:
    assert command(PLACE, configured) == expected


@pytest.mark.parametrize("configured", ["", "   ", "'vi"])
def test_a_command_that_cannot_be_split_is_a_usage_error(configured: str) -> None:
    with pytest.raises(UsageError, match="editor"):
        command(PLACE, configured)


@pytest.mark.parametrize(
    ("setting", "environ", "expected"),
    [
        ("hx", {"VISUAL": "code", "EDITOR": "nano"}, "hx"),
        (None, {"VISUAL": "code", "EDITOR": "nano"}, "code"),
        (None, {"EDITOR": "nano"}, "nano"),
        (None, {"VISUAL": ""}, "vi"),
    ],
)
def test_the_setting_wins_then_visual_then_editor(setting: str | None, environ: dict[str, str], expected: str) -> None:
    assert editor(Settings(editor=setting), environ) == expected


def test_a_file_that_may_be_written_can_be_edited(tmp_path: Path) -> None:
    path = tmp_path / "a.en.md"
    path.write_text("# A\n")
    assert editable(Place(path, 1)) == Place(path, 1)


def test_a_read_only_file_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.en.md"
    path.write_text("# A\n")
    monkeypatch.setattr("os.access", lambda *_: False)  # the tests may run as root, who may write everywhere
    with pytest.raises(UsageError, match=r"read-only.*llmquiz deck new"):
        editable(Place(path, 1))


def test_a_file_that_is_gone_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        editable(Place(tmp_path / "gone.en.md", 1))
