"""`llmquiz export anki`."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from llmquiz.cli.main import main

ENGLISH = """# KV cache {order=20}

What is kept.

## What is kept? {#kept topic=kv-cache level=L1 frequency=high}

Keys and values.

### Key points
- keys
- values
- of every layer
"""
CHINESE = """# 键值缓存

留下什么。

## 留下什么？ {#kept}

键与值。

### 要点
- 键
- 值
- 每一层
"""


@pytest.fixture
def decks(home: Path) -> Path:
    folder = home / "data" / "decks"
    folder.mkdir(parents=True)
    (folder / "mine.en.md").write_text(ENGLISH, encoding="utf-8")
    (folder / "mine.zh.md").write_text(CHINESE, encoding="utf-8")
    return folder


def test_writes_a_package_and_says_what_to_do(decks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "cards.apkg"
    assert main(["export", "anki", "mine", "-o", str(out), "--schedule"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{out} (decks: 1, cards: 1, reviews: 0)\n"
    assert "Import any learning progress" in captured.err
    assert zipfile.is_zipfile(out)


def test_reports_as_json(decks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "cards.apkg"
    assert main(["export", "anki", "mine", "-o", str(out), "--lang", "both", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == {
        "path": str(out), "decks": 1, "notes": 1, "cards": 1, "reviews": 0, "bytes": out.stat().st_size,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["mime"], 2, "there is no deck 'mime'; did you mean 'mine'?"),
        (["--lang", "fr"], 2, "--lang 'fr' is not one of en, zh, both"),
        (["-o", "."], 1, "is a folder"),
        (["-o", "no/such/folder.apkg"], 1, "there is no folder no/such"),
    ],
)
def test_errors_are_one_line(
    decks: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", "anki", *argv]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("llmquiz: error: ")
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert not list(tmp_path.glob("*.apkg"))
