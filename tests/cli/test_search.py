"""`llmquiz search`: cards by their words in either language."""

from __future__ import annotations

import json

import pytest

from llmquiz.cli.main import main


@pytest.mark.parametrize("query", ["queries", "缓存", "kv-why-not-queries"])
def test_finds_cards_in_both_languages(query: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", query, "--json", "--limit", "50"]) == 0
    found = json.loads(capsys.readouterr().out)["cards"]
    assert "kv-why-not-queries" in {card["id"] for card in found}


def test_a_line_has_the_id_and_the_question_in_the_language_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "kv-why-not-queries", "--lang", "both"]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("kv-why-not-queries [kv-cache]: Why are keys")
    assert "为什么" in line


def test_nothing_found_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "qzxjv wkpyh"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "no card has 'qzxjv wkpyh'" in captured.err
