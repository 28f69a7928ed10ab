"""How long `llmquiz --help` takes, beside a Typer hello-world and the bare interpreter; runs interleaved, medians."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HELLO = """
import typer

app = typer.Typer()


@app.command()
def hello(name: str) -> None:
    print(f"hello {name}")


app()
"""


def main(rounds: int = 21) -> None:
    """Print the medians and their ratios."""
    with tempfile.TemporaryDirectory() as folder:
        hello = Path(folder) / "hello.py"
        hello.write_text(HELLO)
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "typer hello-world --help": [sys.executable, str(hello), "--help"],
            "llmquiz --help": [sys.executable, "-m", "llmquiz", "--help"],
            "llmquiz --version": [sys.executable, "-m", "llmquiz", "--version"],
            "llmquiz stats": [sys.executable, "-m", "llmquiz", "stats"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                times[name].append(seconds(command))
    peer = statistics.median(times["typer hello-world --help"])
    print(f"{'command':28} {'median':>9} {'× hello-world':>14}")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:28} {median * 1e3:6.0f} ms {median / peer:14.2f}")


def seconds(command: list[str]) -> float:
    """Wall time of one run of `command`."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
