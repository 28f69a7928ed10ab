"""Which topics have the cards that they should, and how it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from llmquiz.cli.deck import app
from llmquiz.core.card import Frequency, Lang
from llmquiz.core.errors import DeckError
from llmquiz.deck import topics
from llmquiz.deck.coverage import by_area, coverage
from llmquiz.deck.library import Library

SYLLABUS = """
[areas]
models = { en = "Models", zh = "模型" }
tools = { en = "Tools", zh = "工具" }

[topics]
norms = { en = "Norms", zh = "归一化", area = "models", priority = "high" }
heads = { en = "Heads", zh = "头", area = "models", priority = "low" }
agents = { en = "Agents", zh = "智能体", area = "tools", priority = "medium", beyond = true }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "topics.toml"
    path.write_text(SYLLABUS, encoding="utf-8")
    return path


def test_reads_areas_and_topics_in_their_order(file: Path) -> None:
    syllabus = topics.load(file)

    assert list(syllabus.areas) == ["models", "tools"]
    assert list(syllabus.topics) == ["norms", "heads", "agents"]
    assert syllabus.topics["norms"].priority is Frequency.HIGH
    assert syllabus.topics["agents"].beyond
    assert syllabus.topics["heads"].names[Lang.ZH] == "头"


@pytest.mark.parametrize(
    ("old", "new"),
    [('area = "tools"', 'area = "nowhere"'), ('"low"', '"often"'), ('zh = "头", ', ""), ("[topics]", "[subjects]")],
)
def test_a_syllabus_of_another_shape_is_refused(file: Path, old: str, new: str) -> None:
    file.write_text(SYLLABUS.replace(old, new), encoding="utf-8")
    with pytest.raises(DeckError, match="a topic is written"):
        topics.load(file)


def test_without_a_file_there_is_no_syllabus(tmp_path: Path) -> None:
    assert topics.load(tmp_path / "none.toml").topics == {}


def test_a_topic_needs_an_open_card_and_an_atomic_one() -> None:
    syllabus = topics.load()
    cards = [card for deck in Library().decks() for card in deck.cards]
    found = {one.slug: one for one in coverage(syllabus, cards)}
    nothing = coverage(syllabus, [])

    assert found.keys() == syllabus.topics.keys()
    assert sum(one.open + one.atomic for one in found.values()) == len(cards)
    assert found["kv-cache"].covered
    assert found["kv-cache"].lacks == ()
    assert not any(one.covered for one in nothing)
    assert all(one.lacks == ("open", "atomic") for one in nothing)
    assert sum(len(topics) for _, topics in by_area(nothing)) == len(nothing)


@pytest.mark.parametrize(("lang", "word"), [("en", "still to be written"), ("zh", "尚待编写")])
def test_the_table_names_what_is_missing(lang: str, word: str) -> None:
    missing = [one for one in coverage(topics.load(), (c for d in Library().decks() for c in d.cards)) if one.lacks]
    shown = CliRunner().invoke(app, ["coverage", "--lang", lang])

    assert shown.exit_code == 0
    assert (word in shown.output) is bool(missing)


def test_json_counts_the_cards_of_each_topic() -> None:
    report = json.loads(CliRunner().invoke(app, ["coverage", "--json"]).output)

    assert sum(not topic["beyond"] for topic in report["topics"]) == 169
    assert all(topic["covered"] is bool(topic["open"] and topic["atomic"]) for topic in report["topics"])
    assert {topic["area"] for topic in report["topics"]} == report["areas"].keys()
