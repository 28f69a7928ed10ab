"""Start to first card and key to screen in a real terminal, beside the smallest Textual app, in turns; medians."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from tests.support.terminal import Terminal

SMALLEST = """
from textual.app import App
from textual.widgets import Static


class Smallest(App):
    BINDINGS = [("space", "flip", "flip"), ("q", "quit", "quit")]

    def compose(self):
        yield Static("front side")

    def action_flip(self):
        self.query_one(Static).update("back side")


Smallest().run()
"""


def main(rounds: int = 7) -> None:
    """Print the medians and their ratios."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = folder / "smallest.py"
        script.write_text(SMALLEST)
        times: dict[str, list[float]] = {}
        for turn in range(rounds + 1):
            measured = {**ours(folder / "home"), **theirs(folder / "home", script)}
            for step, seconds in measured.items() if turn else ():  # the first turn makes the database
                times.setdefault(step, []).append(seconds)
    medians = {step: statistics.median(values) for step, values in times.items()}
    for step, peer in (("first card", "first paint"), ("reveal", "flip"), ("rate, next card", "flip")):
        print(
            f"{step:16} {medians[step] * 1e3:5.0f} ms   {medians[step] / medians[peer]:.2f} x the smallest app's {peer}"
        )


def ours(home: Path) -> dict[str, float]:
    """Seconds of each step of a session."""
    started = time.perf_counter()
    terminal = Terminal(home, "study", "--deck", "attention", "--new", "9999")
    terminal.wait_for("show answer")
    times = {"first card": time.perf_counter() - started}
    times["reveal"] = seconds(terminal, " ", "Again")
    times["rate, next card"] = seconds(terminal, "4", "show answer")
    terminal.press("q")
    terminal.wait_for_end()
    return times


def theirs(home: Path, script: Path) -> dict[str, float]:
    """Seconds of each step of the smallest app."""
    started = time.perf_counter()
    terminal = Terminal(home, program=(str(script),))
    terminal.wait_for("front side")
    times = {"first paint": time.perf_counter() - started, "flip": seconds(terminal, " ", "back side")}
    terminal.press("q")
    terminal.wait_for_end()
    return times


def seconds(terminal: Terminal, key: str, text: str) -> float:
    """From the press of `key` until `text` is on the screen."""
    started = time.perf_counter()
    terminal.press(key)
    terminal.wait_for(text)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
