"""The real program under a real terminal: a session from start to quit, a resize, a terminal that is too small."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.terminal import Terminal

DECK = """# Mine {order=1}

A deck of my own.

## What is kept in a KV cache? {#mine-kv topic=kv-cache level=L1 frequency=high}

Keys and values of every earlier token.

### Key points
- Keys and values
- Not queries
- Grows with the context

## Why is softmax shifted by its maximum? {#mine-softmax topic=softmax level=L1 frequency=high}

So that no exponential overflows.

### Key points
- The result does not change
- The largest exponent is zero
- No overflow
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator:
    home = tmp_path / "home"
    (home / "data" / "decks").mkdir(parents=True)
    (home / "data" / "decks" / "mine.en.md").write_text(DECK, encoding="utf-8")
    opened: list[Terminal] = []

    def open_terminal(*arguments: str, **how: Any) -> Terminal:
        opened.append(Terminal(home, *arguments, **how))
        return opened[-1]

    open_terminal.home = home  # type: ignore[attr-defined]
    yield open_terminal
    for terminal in opened:
        terminal.process.close(force=True)


def answers(home: Path) -> list[tuple[str, int]]:
    with sqlite3.connect(home / "data" / "llmquiz.db") as connection:
        sql = "SELECT card, rating FROM live_review JOIN schedule ON schedule.id = live_review.schedule ORDER BY 1"
        rows = connection.execute(sql).fetchall()
    connection.close()
    return rows


def test_a_session_from_start_to_quit_is_on_disk(start) -> None:
    terminal = start("study", "--deck", "mine")
    terminal.wait_for("What is kept in a KV cache?")
    terminal.press(" ")
    terminal.wait_for("Keys and values of every earlier token.")
    terminal.wait_for("Again")
    terminal.press("4")
    terminal.wait_for("Why is softmax shifted by its maximum?")
    assert answers(start.home) == [("mine-kv", 4)]
    terminal.press("\r")
    terminal.wait_for("So that no exponential overflows.")
    terminal.press("4")
    terminal.wait_for("Session complete")
    terminal.press("q")
    assert terminal.wait_for_end() == 0
    assert answers(start.home) == [("mine-kv", 4), ("mine-softmax", 4)]


@pytest.mark.slow
def test_the_screen_follows_the_window(start) -> None:
    terminal = start("study", "--deck", "mine")
    terminal.wait_for("What is kept in a KV cache?")
    terminal.wait_for("? help")
    terminal.resize(6, 25)
    terminal.wait_for("too small")
    terminal.resize(40, 120)
    terminal.wait_for("What is kept in a KV cache?")
    terminal.press("q")
    assert terminal.wait_for_end() == 0


def test_ctrl_c_does_not_lose_the_session(start) -> None:
    terminal = start("study", "--deck", "mine")
    terminal.wait_for("What is kept in a KV cache?")
    terminal.press("\x03")
    terminal.wait_for("q leaves")
    terminal.press(" ")
    terminal.wait_for("Keys and values of every earlier token.")
    terminal.press("q")
    assert terminal.wait_for_end() == 0


@pytest.mark.slow
def test_the_editor_gets_the_terminal_and_gives_it_back(start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text(
        '#!/bin/sh\nfor path; do :; done\necho EDITING\nread answer\nsed -i "s/What is kept/What stays/" "$path"\n'
    )
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    terminal = start("study", "--deck", "mine")
    terminal.wait_for("What is kept in a KV cache?")
    terminal.press("e")
    terminal.wait_for("EDITING")
    terminal.press("done\r")
    terminal.wait_for("What stays in a KV cache?")
    terminal.press("q")
    assert terminal.wait_for_end() == 0


# Like make: the leader of the terminal's session, which a hang-up does not end while its child lives.
LEADER = """
import pathlib, signal, subprocess, sys
signal.signal(signal.SIGHUP, lambda *_: None)
child = subprocess.Popen([sys.executable, "-m", "llmquiz", *sys.argv[2:]])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
child.wait()
"""


@pytest.mark.slow
def test_the_app_ends_with_its_terminal(start, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    terminal = start(str(pid_file), "study", "--deck", "mine", program=("-c", LEADER))
    terminal.wait_for("What is kept in a KV cache?")
    terminal.press(" ")
    terminal.wait_for("Again")
    terminal.press("3")
    terminal.wait_for("Why is softmax shifted by its maximum?")

    terminal.process.ptyproc.fileobj.close()

    wait_until_gone(int(pid_file.read_text()))
    assert answers(start.home) == [("mine-kv", 3)]


def wait_until_gone(pid: int) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError("the app outlived its terminal")
