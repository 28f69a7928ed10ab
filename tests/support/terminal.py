"""A real terminal for a program under test."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pexpect
import pyte

PATIENCE = 60  # seconds; the machine may be busy
_TERMINAL = ("COLORFGBG", "COLORTERM", "NO_COLOR", "COLUMNS", "LINES")  # of the terminal that the tests run in


class Terminal:
    """A Python program in a pseudo-terminal, `llmquiz` by default, and the screen that a person would see."""

    def __init__(
        self,
        home: Path,
        *arguments: str,
        rows: int = 24,
        columns: int = 80,
        program: tuple[str, ...] = ("-m", "llmquiz"),
    ) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.Stream(self.screen)
        environ = {name: value for name, value in os.environ.items() if name not in _TERMINAL}
        environ |= {"LLMQUIZ_HOME": str(home), "TERM": "xterm-256color", "LANG": "en_US.UTF-8"}
        self.process = pexpect.spawn(
            sys.executable,
            [*program, *arguments],
            env=environ,
            dimensions=(rows, columns),
            encoding="utf-8",
            timeout=PATIENCE,
        )

    @property
    def text(self) -> str:
        """The screen as text."""
        return "\n".join(self.screen.display)

    def wait_for(self, text: str) -> None:
        """Read what the program writes until `text` stands on the screen."""
        self._read_until(lambda: text in self.text, f"{text!r} on the screen")

    def wait_for_end(self) -> int:
        """Read until the program has ended; returns its exit code."""
        self._read_until(lambda: not self.process.isalive(), "the end")
        self.process.close()
        return int(self.process.exitstatus or 0)

    def press(self, keys: str) -> None:
        """Type `keys`."""
        self.process.send(keys)

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of the window; the program gets SIGWINCH."""
        self.screen.resize(rows, columns)
        self.process.setwinsize(rows, columns)

    def _read_until(self, reached: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not reached():
            if time.monotonic() > end:
                raise AssertionError(f"waited in vain for {what}; the screen shows:\n{self.text}")
            try:
                self._stream.feed(self.process.read_nonblocking(65536, timeout=0.2))
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                if reached():
                    return
                self.process.wait()
