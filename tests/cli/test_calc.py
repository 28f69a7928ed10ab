"""`llmquiz calc`: formulas with their numbers, in 80 columns, two languages and JSON; nothing heavy is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from llmquiz.cli.main import main

RUNS = [
    ["kv-cache", "llama-3-8b", "--context", "8192", "--batch", "4", "--gpu", "h100"],
    ["kv-cache", "deepseek-v3", "--window", "1024"],
    ["memory", "qwen2.5-72b", "--batch", "8"],
    ["memory", "llama-2-7b", "--train", "--zero", "3", "--gpus", "8"],
    ["memory", "qwen3-8b", "--train", "--method", "qlora", "--checkpointing", "full"],
    ["flops", "llama-3-70b", "--tp", "4", "--train-tokens", "15T", "--gpus", "16000"],
    ["parallel", "mixtral-8x7b", "--tp", "4", "--pp", "4", "--dp", "8", "--ep", "8", "--micro-batches", "16"],
    ["models"],
]


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("argv", RUNS, ids=" ".join)
def test_reports_fit_eighty_columns(argv: list[str], lang: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calc", *argv, "--lang", lang]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 5
    assert max(map(cell_len, lines)) <= 80
    assert any("一" <= letter <= "鿿" for line in lines for letter in line) == (lang == "zh")


def test_the_formula_is_shown_with_its_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calc", "kv-cache", "llama-3-8b"]) == 0

    out = capsys.readouterr().out
    assert "2 × layers × KV heads × head dim × bytes = 2 × 32 × 8 × 128 × 2" in out
    assert "128 KiB" in out


@pytest.mark.parametrize("argv", RUNS, ids=" ".join)
def test_json_has_base_units(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calc", *argv, "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == 1
    if argv == ["models"]:
        assert {"name", "parameters", "active", "cached_numbers"} == told["models"][0].keys()
        return
    assert told["calculator"] == argv[0]
    assert told["problems"] == []
    assert all(result["value"] >= 0 for result in told["results"].values())


def test_a_config_stands_for_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fields = {
        "model_type": "gpt2",
        "vocab_size": 50257,
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "n_positions": 1024,
    }
    (tmp_path / "config.json").write_text(json.dumps(fields))

    assert main(["calc", "memory", "--config", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"]["weight_bytes"]["value"] == 2 * 124_439_808


def test_what_does_not_work_is_a_finding(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calc", "parallel", "llama-3-8b", "--tp", "3"]) == 1
    assert "32 query heads do not divide by tp 3" in capsys.readouterr().out
    assert main(["calc", "flops", "llama-3-70b", "--gpu", "h100", "--lang", "zh"]) == 1
    assert "放不进" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["kv-cache"], "name a model"),
        (["kv-cache", "llama-3-8b", "--config", "x"], "name a model"),
        (["kv-cache", "llama-9"], "model 'llama-9' is not known"),
        (["kv-cache", "gpt-2", "--gpu", "h1000"], "GPU 'h1000' is not known; try h100"),
        (["kv-cache", "gpt-2", "--gpu-memory", "lots"], "--gpu-memory 'lots' is no size"),
        (["kv-cache", "gpt-2", "--dtype", "fp12"], "--dtype 'fp12' is not one of"),
        (["kv-cache", "gpt-2", "--context", "0"], "--context"),
        (["kv-cache", "gpt-2", "--lang", "fr"], "--lang 'fr' is not one of en, zh"),
        (["memory", "gpt-2", "--train", "--method", "adapter"], "--method 'adapter'"),
        (["flops", "gpt-2", "--train-tokens", "lots"], "--train-tokens 'lots'"),
        (["flops", "--config", "nowhere.json"], "nowhere.json: no such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_requests_are_usage_errors(argv: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calc", *argv]) == 2

    captured = capsys.readouterr()
    assert captured.out == ""
    assert problem in captured.err
    assert captured.err.count("\n") == 1


def test_neither_help_nor_json_loads_what_is_heavy() -> None:
    script = (
        "import sys\n"
        "from llmquiz.cli.main import main\n"
        "main(['calc', '--help'])\n"
        "main(['calc', 'flops', 'llama-3-8b', '--json', '--lang', 'en'])\n"
        "print(sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert not {"torch", "numpy", "rich", "textual", "sqlite_utils"} & set(eval(done.stderr.splitlines()[-1]))
