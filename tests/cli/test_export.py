"""`llmquiz export anki`."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from llmquiz.cli.main import main
from llmquiz.core.card import Lang
from llmquiz.deck import topics
from llmquiz.store import RunRecord, Store

ENGLISH = """# KV cache {order=20}

What is kept.

## What is kept? {#kept topic=kv-cache level=L1 frequency=high lab=kvcache}

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
        "path": str(out), "decks": 1, "notes": 1, "cards": 1, "reviews": 0, "media": 0, "bytes": out.stat().st_size,
    }  # fmt: skip


def measured(home: Path, curve: list[list[float]]) -> None:
    series = [{"metric": "decode_latency", "series": "ours", "points": curve}]
    with Store.open(home / "data" / "llmquiz.db") as store:
        store.add_run(RunRecord("kvcache", 1_700_000_000, 2.0, "ok", series=series, device="cpu"))


@pytest.mark.slow
def test_lab_results_come_as_pictures(
    home: Path, decks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "cards.apkg"
    assert main(["export", "anki", "mine", "-o", str(out)]) == 0
    measured(home, [[16, 1.5], [64, 2.5]])
    assert main(["export", "anki", "mine", "-o", str(out)]) == 0
    assert "media files: 1)" in capsys.readouterr().out
    with zipfile.ZipFile(out) as package:
        assert package.read("0").startswith(b"\x89PNG")
    assert main(["export", "anki", "mine", "-o", str(out), "--no-pictures"]) == 0
    captured = capsys.readouterr()
    assert "media files" not in captured.out
    assert "matplotlib" not in captured.err


def test_without_matplotlib_a_note_says_what_is_missing(
    home: Path, decks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured(home, [[16, 1.5]])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["export", "anki", "mine", "-o", str(tmp_path / "cards.apkg")]) == 0
    note = "lab results of 1 card go without pictures, which need matplotlib; pip install 'llmquiz[labs]'"
    assert note in capsys.readouterr().err


def test_topics_as_decks_have_the_titles_of_the_syllabus(decks: Path, tmp_path: Path) -> None:
    out = tmp_path / "cards.apkg"
    assert main(["export", "anki", "mine", "-o", str(out), "--sub-decks", "--since", "7d"]) == 0
    with zipfile.ZipFile(out) as package:
        package.extract("collection.anki21", tmp_path)
    with closing(sqlite3.connect(tmp_path / "collection.anki21")) as collection:
        entries = json.loads(collection.execute("SELECT decks FROM col").fetchone()[0]).values()
    title = topics.load().topics["kv-cache"].names[Lang.EN]
    assert f"llmquiz::KV cache::{title}" in {entry["name"] for entry in entries}


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["mime"], 2, "there is no deck 'mime'; did you mean 'mine'?"),
        (["--lang", "fr"], 2, "--lang 'fr' is not one of en, zh, both"),
        (["--since", "soon"], 2, "--since 'soon' is no date; write one like "),
        (["--since", "2999-01-01"], 2, "lies ahead"),
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
