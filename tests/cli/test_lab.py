"""`llmquiz lab`: lists, runs and remembers; its options come from manifests."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llmquiz.cli.main import main
from llmquiz.lab.catalog import Catalog
from llmquiz.store import Store

FIXTURES = Path(__file__).parents[1] / "lab" / "fixtures"


@pytest.fixture(autouse=True)
def labs(home: Path) -> Path:
    """The user's labs are those of the tests."""
    folder = home / "data" / "labs"
    shutil.copytree(FIXTURES, folder)
    return folder


def test_the_list_names_every_lab(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab"]) == 0

    out = capsys.readouterr().out
    assert "quick" in out
    assert "Squares" in out
    assert "10 s" in out


def test_the_list_speaks_chinese(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "--list", "--lang", "zh"]) == 0

    assert "平方" in capsys.readouterr().out


def test_the_list_as_json_is_the_manifests(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "--json"]) == 0

    quick = next(lab for lab in json.loads(capsys.readouterr().out)["labs"] if lab["name"] == "quick")
    assert quick["title"] == {"en": "Squares", "zh": "平方"}
    assert quick["budget"] == {"seconds": 10.0, "memory_mb": 500}
    assert quick["missing"] == []
    assert not quick["builtin"]
    assert quick["params"][0] == {
        "name": "count",
        "type": "int",
        "default": 4,
        "range": [2, 100],
        "choices": [],
        "help": {"en": "how many numbers", "zh": "多少个数"},
    }
    assert quick["claims"][0]["predict"] == {"metric": "total", "within": 1.5}
    assert [metric["name"] for metric in quick["metrics"]] == ["square", "total"]


def test_a_broken_lab_is_a_warning_of_the_list(labs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (labs / "quick" / "lab.toml").write_text("nonsense")

    assert main(["lab"]) == 0

    captured = capsys.readouterr()
    assert "noisy" in captured.out
    assert "quick/lab.toml:1: not TOML" in captured.err


def test_a_run_prints_its_report_and_is_remembered(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "quick", "--count", "3", "--fast", "--seed", "5"]) == 0

    out = capsys.readouterr().out
    assert "held" in out
    assert "seed 5" in out

    assert main(["lab", "history", "quick", "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert run["metrics"] == {"total": 14.0}
    assert run["params"] == {"count": 3, "shape": "full", "scale": 1.0, "fast": True, "model": ""}


def test_the_result_as_json_is_what_history_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "quick", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert main(["lab", "history", "--json"]) == 0
    (kept,) = json.loads(capsys.readouterr().out)["runs"]

    assert result["outcome"] == "ok"
    assert result["claims"][0]["held"] is True
    assert {**kept, "id": None} == {**result, "id": None}


def test_events_are_lines_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "quick", "--events", "--no-save"]) == 0

    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[0]["event"] == "started"
    assert (events[-1]["event"], events[-1]["outcome"]) == ("ended", "ok")


def test_a_run_need_not_be_kept(capsys: pytest.CaptureFixture[str]) -> None:
    main(["lab", "quick", "--no-save"])
    capsys.readouterr()

    assert main(["lab", "history", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"runs": []}


def test_history_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    main(["lab", "broken"])
    main(["lab", "quick"])
    capsys.readouterr()

    assert main(["lab", "history", "--limit", "1"]) == 0
    out = capsys.readouterr().out
    assert "quick" in out
    assert "broken" not in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["broken"], 1, ""),
        (["crashing"], 1, "llmquiz: error: lab crashing: ZeroDivisionError: two lines of text; its log: "),
        (["hanging", "--seconds", "0.2"], 1, "time budget of 0.2 s"),
        (["greedy"], 1, "past its memory budget"),
        (["quik"], 2, "no lab 'quik'; did you mean 'quick'?"),
        (["history", "quik"], 2, "did you mean 'quick'?"),
        (["quick", "--count", "1"], 2, "'count' must be a whole number from 2 to 100, not '1'"),
        (["quick", "--shape", "third"], 2, "one of full, half"),
        (["quick", "--colour", "red"], 2, "no such option"),
        (["quick", "--device", "tpu"], 2, "not one of auto, cpu, cuda, mps"),
        (["quick", "--lang", "fr"], 2, "not one of en, zh"),
        (["quick", "--seconds", "0"], 2, "--seconds must be above 0"),
        (["quick", "--memory", "0"], 2, "--memory must be 1 to"),
        (["greedy", "--memory", "100"], 1, "100 MB allowed); choose smaller parameters or a larger --memory"),
        (["quick", "--json", "--events"], 2, "both want stdout"),
    ],
)
def test_exit_codes_and_messages(
    arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lab", *arguments]) == code

    assert words in capsys.readouterr().err


def test_a_failed_run_is_kept_and_printed_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "crashing", "--json"]) == 1

    result = json.loads(capsys.readouterr().out)
    assert result["outcome"] == "failed"
    assert result["metrics"] == {"got_there": 1.0}


def test_missing_packages_exit_with_three(labs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = labs / "quick" / "lab.toml"
    manifest.write_text('needs = ["a_package_that_is_not"]\n' + manifest.read_text())

    assert main(["lab", "quick"]) == 3
    assert "install with: pip install 'llmquiz[labs]'" in capsys.readouterr().err

    assert main(["lab"]) == 0
    assert "missing: a_package_that_is_not" in " ".join(capsys.readouterr().out.split())


def test_help_shows_ranges_defaults_and_claims(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "quick", "--help"]) == 0

    out = " ".join(capsys.readouterr().out.split())
    assert "--count INT how many numbers [a whole number from 2 to 100; default: 4]" in out
    assert "one of full, half; default: full" in out
    assert "The square grows with exponent two." in out
    assert "--fast / --no-fast" in out


def complete(*words: str) -> list[str]:
    """What bash would be offered for the last of `words`."""
    line = ["llmquiz", *words]
    environment = {**os.environ, "_LLMQUIZ_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(line)}
    environment["COMP_CWORD"] = str(len(line) - 1)
    done = subprocess.run(
        [sys.executable, "-m", "llmquiz"], env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout.split()


def test_the_shell_completes_labs_options_and_choices() -> None:
    assert "quick" in complete("lab", "qu")
    assert {"--shape", "--scale", "--seed", "--seconds"} <= set(complete("lab", "quick", "--s"))
    assert complete("lab", "quick", "--shape", "h") == ["half"]
    assert complete("lab", "quick", "--device", "c") == ["cpu", "cuda"]
    assert complete("lab", "nothing", "--sh") == []


def test_an_interrupt_ends_the_run_and_keeps_what_it_measured(capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "llmquiz", "lab", "hanging", "--events"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while json.loads(process.stdout.readline())["event"] != "metric":
            pass
        process.send_signal(signal.SIGINT)
        last = json.loads(process.stdout.read().splitlines()[-1])

    assert process.returncode == 130
    assert last["outcome"] == "cancelled"
    assert main(["lab", "history", "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert (run["outcome"], run["metrics"]) == ("cancelled", {"before": 1.0})


def test_the_parent_never_imports_torch_or_textual() -> None:
    code = (
        "import sys; from llmquiz.cli.main import main\n"
        "assert main(['lab', 'quick', '--json', '--no-save']) == 0\n"
        "sys.exit(','.join({'torch', 'textual', 'numpy'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


@pytest.fixture
def some(labs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the tests' labs that end by themselves."""
    for name in ("family", "greedy", "hanging", "kin", "noisy"):
        shutil.rmtree(labs / name)
    monkeypatch.setattr("llmquiz.cli.lab._catalog", lambda: Catalog([(labs, False)]))


@pytest.mark.slow
@pytest.mark.usefixtures("some")
def test_all_labs_run_into_one_table(capsys: pytest.CaptureFixture[str], labs: Path) -> None:
    assert main(["lab", "--all", "--json"]) == 1

    out, err = capsys.readouterr()
    runs = {run["lab"]: run for run in json.loads(out)["runs"]}
    assert {name: run["outcome"] for name, run in runs.items()} == {
        "broken": "broken",
        "crashing": "failed",
        "quick": "ok",
    }
    assert runs["quick"]["metrics"]["total"] == 30
    assert "3/3 quick ok" in err
    with Store.open() as store:
        assert {run.lab for run in store.runs()} == set(runs)


@pytest.mark.slow
@pytest.mark.usefixtures("some")
def test_all_is_well_only_if_every_claim_held(capsys: pytest.CaptureFixture[str], labs: Path) -> None:
    for name in ("broken", "crashing"):
        shutil.rmtree(labs / name)
    assert main(["lab", "--all"]) == 0
    assert "1/1" in capsys.readouterr().out

    manifest = labs / "quick" / "lab.toml"
    manifest.write_text(manifest.read_text().replace("topics", 'needs = ["not_installed_anywhere"]\ntopics', 1))
    assert main(["lab", "--all"]) == 3
    assert "missing: not_installed_anywhere" in capsys.readouterr().out
