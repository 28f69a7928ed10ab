"""The chains of an interview lead from topic to topic of the syllabus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from llmquiz.cli.deck import app
from llmquiz.core.card import Lang
from llmquiz.core.errors import DeckError
from llmquiz.deck import chains, topics
from llmquiz.deck.chains import Ask

CHAIN = """
[cache]
title = { en = "The cache", zh = "缓存" }
links = [
  { topic = "kv-cache", kind = "derive", trap = { en = "It saves computing.", zh = "它省的是计算。" } },
  { topic = "mqa-gqa", kind = "compute" },
]
"""


def test_reads_links_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "chains.toml").write_text(CHAIN, encoding="utf-8")
    chain = chains.load(tmp_path / "chains.toml")["cache"]

    assert chain.titles[Lang.ZH] == "缓存"
    assert [(link.topic, link.ask) for link in chain.links] == [("kv-cache", Ask.DERIVE), ("mqa-gqa", Ask.COMPUTE)]
    assert chain.links[0].trap == {Lang.EN: "It saves computing.", Lang.ZH: "它省的是计算。"}
    assert chain.links[1].trap is None


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"mqa-gqa"', '"mga"', "no topic 'mga'"),
        ('"compute"', '"guess"', "'guess' is not a valid"),
        (', zh = "缓存"', "", "a link is written"),
        ("[cache]", "[cache", "cannot be read as TOML"),
    ],
)
def test_a_chain_of_another_shape_is_refused(tmp_path: Path, old: str, new: str, problem: str) -> None:
    (tmp_path / "chains.toml").write_text(CHAIN.replace(old, new), encoding="utf-8")
    with pytest.raises(DeckError, match=problem):
        chains.load(tmp_path / "chains.toml")


def test_without_a_file_there_are_none(tmp_path: Path) -> None:
    assert chains.load(tmp_path / "none.toml") == {}


def test_the_shipped_chains_go_somewhere() -> None:
    shipped = chains.load()

    assert len(shipped) >= 20
    for chain in shipped.values():
        assert len(chain.links) >= 4
        assert len({link.topic for link in chain.links}) == len(chain.links)
    asked = {link.topic for chain in shipped.values() for link in chain.links}
    often = {slug for slug, topic in topics.load().topics.items() if topic.priority == "high" and not topic.beyond}
    assert len(often - asked) <= 10
    assert {link.ask for chain in shipped.values() for link in chain.links} == set(Ask)


def test_one_chain_is_shown_with_its_traps() -> None:
    whole = CliRunner().invoke(app, ["chains", "--lang", "zh"])
    one = CliRunner().invoke(app, ["chains", "kv-cache", "--lang", "en"])
    other = CliRunner().invoke(app, ["chains", "kvcache"])

    assert "从 KV 缓存到带宽上限" in whole.output
    assert "!" not in whole.output
    assert "A cache spends memory to save computing" in one.output
    assert "no chain 'kvcache'; there are attention" in str(other.exception)


def test_json_has_the_cards_of_each_link() -> None:
    found = json.loads(CliRunner().invoke(app, ["chains", "kv-cache", "--json"]).output)["chains"]

    assert [chain["name"] for chain in found] == ["kv-cache"]
    assert found[0]["links"][0]["kind"] == "derive"
    assert found[0]["links"][0]["cards"] > 0
