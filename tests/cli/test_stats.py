"""`llmquiz stats`: a page for people, JSON for programs."""

from __future__ import annotations

import json

import pytest

from llmquiz.cli.main import main
from llmquiz.core.options import Options
from llmquiz.core.rating import Rating
from llmquiz.store import Store
from llmquiz.study.session import Session


def study_one() -> None:
    with Store.open() as store:
        session = Session(store, Options())
        assert session.next() is not None
        session.rate(Rating.EASY, duration_ms=9000)


@pytest.fixture(autouse=True)
def decks(home, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    folder = home / "data" / "decks"
    folder.mkdir(parents=True)
    text = "# Toy\n\n## What? {#toy-what topic=tokens}\n\nThat.\n\n### Key points\n- a\n- b\n- c\n"
    (folder / "toy.en.md").write_text(text, encoding="utf-8")
    monkeypatch.setattr("llmquiz.locations.shipped", lambda kind: home / "nothing" / kind)


def test_a_new_collection_is_welcomed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Nothing to count yet ──")
    assert "1 card is waiting." in out


def test_the_page_after_an_answer(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["stats"]) == 0
    capsys.readouterr()
    study_one()
    assert main(["stats", "--lang", "zh"]) == 0
    out = capsys.readouterr().out
    assert "1 次复习 · 9 秒 · 每次 9 秒 · 1 张新卡" in out
    assert "\x1b" not in out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "--json", "--days", "3"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cards"] == {"new": 1, "learning": 0, "young": 0, "mature": 0, "suspended": 0}
    assert len(told["forecast"]["days"]) == 3


@pytest.mark.parametrize(("argv", "named"), [(["--days", "0"], "--days"), (["--lang", "fr"], "--lang 'fr'")], ids=str)
def test_bad_options_are_usage_errors(argv: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", *argv]) == 2
    assert named in capsys.readouterr().err
