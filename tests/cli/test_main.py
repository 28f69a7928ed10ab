"""Every way to fail is one line on stderr and an exit code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llmquiz import __version__
from llmquiz.cli import main as cli
from llmquiz.core.errors import LlmquizError, MissingExtraError, StoreError


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"llmquiz {__version__}\n"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("study", "stats", "lab", "deck", "export"))


@pytest.mark.parametrize("argv", [["--nonsense"], ["nonsense"], ["study", "--limit", "many"]], ids=" ".join)
def test_usage_errors_are_one_line_and_exit_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("llmquiz: error: ")
    assert captured.err.count("\n") == 1


def raising(error: BaseException) -> Callable[..., None]:
    def app(**_: object) -> None:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LlmquizError("deck: broken"), 1),
        (StoreError("db: locked"), 1),
        (MissingExtraError("lab x: needs torch"), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_have_their_exit_code(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "app", raising(error))
    assert cli.main([]) == code
    assert str(error) in capsys.readouterr().err


def test_a_fault_of_ours_leaves_a_report(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli, "app", raising(ZeroDivisionError("oh")))
    assert cli.main([]) == 70
    line = capsys.readouterr().err
    report = Path(line.strip().rpartition(" ")[2])
    assert "Traceback" in report.read_text(encoding="utf-8")
    report.unlink()


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -m llmquiz --help | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0"
    assert "Traceback" not in done.stderr
