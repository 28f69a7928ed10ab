"""`llmquiz study` as a command: what it is given, what it prints where, and its exit codes."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llmquiz.cli.main import main
from llmquiz.store import Store

DECK = """# Toy {order=1}

## What is a token? {#toy-token topic=tokens}

A piece of text with a number.

### Key points
- piece of text
- has a number
- from a vocabulary

## What is a logit? {#toy-logit topic=logits}

A score before softmax.

### Key points
- score
- before softmax
- any real number
"""


@pytest.fixture(autouse=True)
def decks(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with one deck, and no shipped decks."""
    folder = home / "data" / "decks"
    folder.mkdir(parents=True)
    (folder / "toy.en.md").write_text(DECK, encoding="utf-8")
    monkeypatch.setattr("llmquiz.locations.shipped", lambda kind: home / "nothing" / kind)
    return folder


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    def give(*lines: str) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))

    give()
    return give


def ratings() -> list[int]:
    with Store.open() as store:
        return [row[0] for row in store.connection.execute("SELECT rating FROM live_review ORDER BY id")]


def test_a_pipe_gets_lines(typed, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    typed("", "3", "q")
    assert main(["study"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("2 new, 0 learning, 0 to review\n\nCard 1 toy-token, tokens, L1")
    assert captured.out.endswith("1 answer in this session.\n")
    assert captured.err == ""
    assert ratings() == [3]


def test_json_lines(typed, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    typed('{"do": "next"}', '{"do": "rate", "rating": "easy"}', '{"do": "quit"}')
    assert main(["study", "--json", "--topic", "logits"]) == 0
    shown, rated, ended = map(json.loads, capsys.readouterr().out.splitlines())
    assert shown["card"]["id"] == rated["card"] == "toy-logit"
    assert ended == {"ok": True, "do": "quit", "answered": 1}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--deck", "tyo"], "no deck 'tyo'; did you mean 'toy'?"),
        (["--deck", "zzz"], "no deck 'zzz'; there are toy"),
        (["--topic", "token"], "no topic 'token'; did you mean 'tokens'?"),
        (["--card", "toy-tokn"], "no card 'toy-tokn'; did you mean 'toy-token'?"),
        (["--card", "zzz"], "no card 'zzz'; 'llmquiz search' finds cards"),
        (["--lang", "fr"], "--lang 'fr' is not one of en, zh, both"),
        (["--plain", "--json"], "--plain and --json exclude each other; leave one out"),
    ],
    ids=" ".join,
)
def test_what_does_not_exist_is_a_usage_error(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", *argv]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"llmquiz: error: {message}\n"
    assert captured.out == ""


@pytest.mark.parametrize("argv", [["--limit", "0"], ["--new", "-1"]], ids=" ".join)
def test_numbers_out_of_range_are_usage_errors(argv: list[str]) -> None:
    assert main(["study", *argv]) == 2


@pytest.mark.parametrize(
    ("argv", "first"),
    [
        (["--new", "0"], "Nothing is due now."),
        (["--new", "1"], "1 new, 0 learning, 0 to review"),
        (["--limit", "1"], "1 new, 0 learning, 0 to review"),
        (["--card", "toy-logit"], "1 new, 0 learning, 0 to review"),
        (["--lang", "zh"], "新卡 2，学习中 0，待复习 0"),
    ],
    ids=str,
)
def test_options_say_what_is_studied(
    argv: list[str],
    first: str,
    typed,  # type: ignore[no-untyped-def]
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["study", *argv]) == 0
    assert capsys.readouterr().out.splitlines()[0] == first


def test_a_broken_deck_is_noted_each_time_and_the_rest_works(
    decks: Path,
    typed,  # type: ignore[no-untyped-def]
    capsys: pytest.CaptureFixture[str],
) -> None:
    (decks / "bad.en.md").write_text("# Bad\n\n## No id\n\ntext\n")
    for _ in range(2):
        assert main(["study"]) == 0
        captured = capsys.readouterr()
        assert captured.err.startswith(f"llmquiz: note: {decks / 'bad.en.md'}:3: ")
        assert captured.out.startswith("2 new")
    (decks / "bad.en.md").unlink()
    assert main(["study"]) == 0
    assert capsys.readouterr().err == ""


def test_an_edit_is_seen_at_once(
    decks: Path,
    typed,  # type: ignore[no-untyped-def]
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    script = tmp_path / "editor.py"
    script.write_text("import pathlib, sys\np = pathlib.Path(sys.argv[-1])\n"
                      "p.write_text(p.read_text().replace('What is a token?', 'What is one token?'))\n")  # fmt: skip
    monkeypatch.setenv("VISUAL", f"'{sys.executable}' '{script}'")
    typed("e", "q")
    assert main(["study"]) == 0
    out = capsys.readouterr().out
    assert f"Opening {decks / 'toy.en.md'}" in out
    assert "Question: What is one token?" in out


def test_an_editor_that_fails_is_told_and_the_card_stays(
    typed,  # type: ignore[no-untyped-def]
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VISUAL", "no-such-editor-at-all")
    typed("e", "", "3", "q")
    assert main(["study"]) == 0
    assert "llmquiz: error: editor 'no-such-editor-at-all' cannot be started" in capsys.readouterr().out
    assert ratings() == [3]


def test_without_a_terminal_the_home_screen_says_how_to_go_on(
    typed,  # type: ignore[no-untyped-def]
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 2
    assert "llmquiz study --plain" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_exits_with_130_and_keeps_the_answer() -> None:
    study = subprocess.Popen(
        [sys.executable, "-m", "llmquiz", "study", "--plain", "--deck", "toy"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert study.stdin
    assert study.stdout
    study.stdin.write("\n3\n")
    study.stdin.flush()
    for line in study.stdout:
        if line.startswith("Good; next in"):
            break
    study.send_signal(signal.SIGINT)
    out, _ = study.communicate(timeout=30)
    assert study.returncode == 130
    assert out.endswith("Stopped; every answer is kept.\n1 answer in this session.\n")
    assert ratings() == [3]
