"""`llmquiz deck`: findings on stdout, one a line; notes on stderr; exit codes as documented."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmquiz import locations
from llmquiz.cli.main import main

DECK = "# Mine\n\n## Why? {#why topic=kv-cache}\n\nBecause 9 ms.\n"


@pytest.fixture
def decks() -> Path:
    folder = locations.user_decks()
    folder.mkdir(parents=True)
    return folder


def test_a_new_deck_lints_clean_and_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deck", "new", "my-notes"]) == 0
    paths = capsys.readouterr().out.splitlines()
    assert [Path(path).name for path in paths] == ["my-notes.en.md", "my-notes.zh.md"]
    assert main(["deck", "lint", *paths]) == 0
    assert capsys.readouterr().out == ""
    assert main(["deck", "list", "--json"]) == 0
    listed = {deck["id"]: deck for deck in json.loads(capsys.readouterr().out)["decks"]}
    assert listed["my-notes"]["cards"] == {"open": 1}
    assert not listed["my-notes"]["builtin"]


def test_lint_prints_a_finding_a_line_and_warnings_pass(decks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (decks / "mine.en.md").write_text(DECK)
    assert main(["deck", "lint", str(decks)]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"{decks / 'mine.en.md'}:3: S0") and "warning: " in line for line in lines)
    assert err == "1 decks, 1 cards: 0 errors, 2 warnings\n"


def test_lint_fails_on_errors_and_tells_them_as_json(decks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (decks / "mine.en.md").write_text(DECK.replace("topic", "colour"))
    assert main(["deck", "lint", str(decks), "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)
    assert [finding.keys() for finding in findings] == [{"path", "line", "rule", "severity", "problem"}] * 2
    assert {finding["rule"] for finding in findings} == {"F02"}


def test_control_characters_never_reach_the_terminal(decks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (decks / "mine.en.md").write_bytes(b"# \x1b[31mT\n\n## \xc2\x9b2J? {#a topic=\x1b}\n\n\xe2\x80\xae\n")
    (decks / "e\x1b[2J.en.md").write_text("# T\n")
    assert main(["deck", "lint", str(decks)]) == 1
    out, err = capsys.readouterr()
    assert out.replace("\n", "").isprintable()
    assert err.replace("\n", "").isprintable()


def test_show_prints_a_card_as_plain_text(decks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (decks / "mine.en.md").write_text(DECK.replace("9 ms", "$\\sqrt{d_k}$"))
    assert main(["deck", "show", "why"]) == 0
    assert "Because √dₖ." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["deck", "show", "none"], "no deck has a card 'none'"),
        (["deck", "show", "why", "--lang", "fr"], "language 'fr' is not one of en, zh, both"),
        (["deck", "lint", "nowhere"], "nowhere: no such file or folder"),
        (["deck", "new", "My Notes"], "not lower-case words"),
        (["deck", "new", "../evil"], "not lower-case words"),
    ],
)
def test_usage_errors_are_one_line(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


def test_new_overwrites_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deck", "new", "my-notes"]) == 0
    assert main(["deck", "new", "my-notes"]) == 2
    assert "is there already" in capsys.readouterr().err


def test_a_broken_deck_is_named_and_the_others_listed(decks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (decks / "mine.en.md").write_text(DECK)
    (decks / "bad.en.md").write_text("nothing")
    assert main(["deck", "list"]) == 0
    out, err = capsys.readouterr()
    assert "mine: Mine (en; 1 open)" in out
    assert "bad: cannot be read" in err
    assert str(locations.user_decks()) in err
