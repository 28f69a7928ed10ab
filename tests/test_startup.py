"""What starting llmquiz loads, and that its rooms keep to their imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "transformers", "peft", "textual", "sqlite_utils", "numpy", "rich", "fsrs", "markdown_it", "plotext"}
ROOT = Path(__file__).parents[1]


def loaded_by(*argv: str) -> set[str]:
    """Top-level modules that `llmquiz ARGV` has loaded when it ends."""
    script = (
        "import sys, json\n"
        "from llmquiz.cli.main import main\n"
        f"main({list(argv)!r})\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["study", "--help"], ["stats", "--help"]], ids=" ".join)
def test_help_loads_nothing_heavy(argv: list[str]) -> None:
    assert not loaded_by(*argv) & HEAVY


@pytest.mark.parametrize(
    "argv", [["stats", "--json"], ["deck", "list"], ["lab", "--list"], ["lab", "kvcache", "--help"]], ids=" ".join
)
def test_reports_load_neither_torch_nor_textual(argv: list[str]) -> None:
    loaded_by("stats", "--json")  # makes the database, which alone takes sqlite_utils and what that imports
    assert not loaded_by(*argv) & {"torch", "transformers", "peft", "textual", "numpy"}


def test_import_contracts_hold() -> None:
    script = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", script, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
