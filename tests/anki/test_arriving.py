"""A collection of the real Anki in our store and back in an empty Anki: everything is as it was."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmquiz.anki.archive.limits import Limits
from llmquiz.anki.exporting.export import export
from llmquiz.anki.importing import naming
from llmquiz.anki.importing.arriving import arriving
from llmquiz.core.card import Kind, Lang
from llmquiz.core.day import Calendar
from llmquiz.core.options import Options
from llmquiz.store import Store
from llmquiz.store.incoming import Incoming
from tests.support import collection, roundtrip

from .conftest import study


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A collection of 66 notes with its facts."""
    folder = tmp_path_factory.mktemp("source")
    col = collection.build(folder, 66, 900)
    yield SimpleNamespace(col=col, folder=folder, facts=roundtrip.facts(col))
    col.close()


def packed(source: SimpleNamespace, kind: str, out: Path) -> Path:
    make, legacy = getattr(collection, "colpkg" if "colpkg" in kind else "package"), kind.startswith("old")
    made: Path = make(source.col, out / f"mine.{kind.split()[-1]}", legacy=legacy)
    return made


@pytest.mark.parametrize(
    "kind", ["apkg", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("old apkg", "colpkg", "old colpkg"))]
)
def test_there_and_back_again(source: SimpleNamespace, store: Store, tmp_path: Path, kind: str) -> None:
    file, media = packed(source, kind, tmp_path), tmp_path / "media"
    report = roundtrip.take_in(store, file, media)
    assert (report.notes_added, report.after.cards) == (66, source.col.card_count())
    assert roundtrip.take_in(store, file, media).nothing
    target = collection.taken(tmp_path / "target", roundtrip.give_back(store, tmp_path / "back.apkg", media))
    found = roundtrip.differences(source.facts, roundtrip.facts(target))
    target.close()
    assert not found


@pytest.fixture(scope="module")
def arrived(source: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The same in a store."""
    folder = tmp_path_factory.mktemp("arrived")
    with Store.open(folder / "llmquiz.db") as store:
        report = roundtrip.take_in(store, collection.package(source.col, folder / "mine.apkg"), folder / "media")
        yield SimpleNamespace(store=store, report=report, cards={card.id: card for card in store.cards()})


def test_notes_become_cards_with_a_face_for_each_of_theirs(source: SimpleNamespace, arrived: SimpleNamespace) -> None:
    for guid, fields, ordinals in source.col.db.all(
        "SELECT guid, flds, group_concat(ord) FROM notes JOIN cards ON nid = notes.id GROUP BY notes.id"
    ):
        card = arrived.cards[naming.card_id(guid)]
        text = card.text(Lang.EN)
        assert card.kind is Kind.NOTE
        assert card.ordinals == tuple(sorted(map(int, ordinals.split(","))))
        assert text.front
        assert all(face.front and face.back for face in text.faces)
        assert list(card.texts) == [Lang.ZH if "注意力" in fields else Lang.EN]


def test_decks_keep_their_tree_in_their_titles(arrived: SimpleNamespace) -> None:
    rows = arrived.store.connection.execute("SELECT id, title_en, title_zh, intro_zh, origin FROM deck").fetchall()
    decks = {row[0]: row[1:] for row in rows}
    assert decks["anki-transformers-attention-kv-cache"][0] == "Transformers › Attention › KV cache"
    assert [row[1:] for row in rows if row[2] == "大模型 › 注意力"] == [
        (None, "大模型 › 注意力", "About **大模型::注意力**.", "anki")
    ]


def test_findings_say_what_has_no_place_here(arrived: SimpleNamespace) -> None:
    told = "\n".join(arrived.report.findings)
    assert "preset 'Keen' (85% retention, fitted weights) is kept for the way back" in told
    assert "filtered decks (Cram before Friday) gather no cards here" in told
    assert "named but not in the file: lost.png" in told
    assert "preset 'Default'" not in told


def test_topics_tags_and_leeches(source: SimpleNamespace, arrived: SimpleNamespace) -> None:
    guid, tags = source.col.db.first("SELECT guid, tags FROM notes WHERE tags LIKE '%leech%'")
    card_id = naming.card_id(guid)
    assert any(part.leech for part in arrived.store.progress_of(card_id))
    assert "leech" in tags
    assert "leech" not in arrived.cards[card_id].tags
    tagged = next(card for card in arrived.cards.values() if card.topic == "kv-cache")
    assert not any(tag.startswith("topic::") for tag in tagged.tags)


def test_our_own_package_brings_progress_only(store: Store, tmp_path: Path, make: Any) -> None:
    """Cards that llmquiz exported, studied since, come back to a store that has their decks."""
    decks = [make.deck(*(make.card(f"card-{n}") for n in range(20)), make.cloze(), make.choice())]
    with Store.open(tmp_path / "there.db") as there:
        there.sync(decks, now=1e9)
        study(there, Options(), days=20, seed=3)
        package = export(there, [], tmp_path / "ours.apkg", with_schedule=True).path
        parts = there.connection.execute("SELECT id, card, ordinal FROM schedule").fetchall()
        theirs = {(card, ordinal): there.progress(part) for part, card, ordinal in parts}
        answers = there.connection.execute("SELECT id, rating, duration_ms FROM live_review ORDER BY id").fetchall()
    store.sync(decks, now=1e9)
    before = store.cards()
    report = roundtrip.take_in(store, package, tmp_path / "media")
    assert (report.notes_added, report.after.decks) == (0, 1)
    assert store.cards() == before
    for (card, ordinal), other in theirs.items():
        (here,) = (part for part in store.progress_of(card) if part.ordinal == ordinal)
        assert (here.suspended, here.flag) == (other.suspended, other.flag)
        assert here.schedule.memory == other.schedule.memory
        assert (here.schedule.interval, here.schedule.reps) == (other.schedule.interval, other.schedule.reps)
        if here.schedule.reps:
            assert here.schedule.due == other.schedule.due
    assert store.connection.execute("SELECT id, rating, duration_ms FROM review ORDER BY id").fetchall() == answers
    assert roundtrip.take_in(store, package, tmp_path / "media").nothing


def test_differences_are_seen(source: SimpleNamespace) -> None:
    key, card = next(iter(source.facts["card"].items()))
    changed = source.facts | {"card": source.facts["card"] | {key: card | {"due": card["due"] + 1}}, "review": {}}
    lines = roundtrip.differences(source.facts, changed)
    assert len(lines) == 1 + len(source.facts["review"])
    assert any(f"due {card['due']} -> {card['due'] + 1}" in line for line in lines)


def test_what_lost_its_place_is_told_and_the_rest_comes(store: Store, tmp_path: Path) -> None:
    col = collection.build(tmp_path / "source", 22, 60, answered=0)
    notes = col.db.list("SELECT id FROM notes ORDER BY id")
    lost = col.db.scalar("SELECT id FROM cards WHERE nid = ? AND odid = 0", notes[1])
    col.db.execute("UPDATE cards SET did = 12345 WHERE id = ?", lost)
    col.db.execute("DELETE FROM cards WHERE nid = ?", notes[2])
    col.db.execute("DELETE FROM notes WHERE id = ?", notes[3])
    answers = col.db.scalar("SELECT count(*) FROM revlog JOIN cards ON cards.id = cid WHERE nid <> ?", notes[3])
    report = roundtrip.take_in(store, collection.colpkg(col, tmp_path / "mine.colpkg"), tmp_path / "media")
    col.close()
    told = "\n".join(report.findings)
    assert (report.notes_added, report.after.reviews <= answers) == (20, True)
    for line in (
        "1 notes have no cards",
        "cards have no note",
        "1 cards are in no deck",
        "answers are of cards that are",
    ):
        assert told.count(line) == 1
    assert store.connection.execute("SELECT deck FROM anki_card WHERE id = ?", (lost,)).fetchall() == [(1,)]


def test_nothing_is_left_of_an_import_that_stops(source: SimpleNamespace, tmp_path: Path) -> None:
    package, folder = collection.package(source.col, tmp_path / "mine.apkg"), tmp_path

    def look(deed: Callable[[Incoming], object]) -> None:
        nonlocal folder
        with arriving(package, Limits(), calendar=Calendar(), options=Options()) as incoming:
            assert incoming.staged is not None
            folder = incoming.staged.homes.parent
            assert folder.is_dir()
            deed(incoming)

    before = threading.active_count()
    for deed in (
        lambda incoming: None,
        lambda incoming: next(iter(incoming.staged.notes)),
        lambda incoming: incoming.staged.log(),
        lambda incoming: 1 // 0,
    ):
        with suppress(ZeroDivisionError):
            look(deed)
        assert not folder.exists()
        assert threading.active_count() == before


def test_slugs_are_unique_and_say_what_they_can() -> None:
    found = naming.slugs(
        ["Deep Learning::Attention", "Deep-learning attention", "大模型", "大模型::缓存", "C++", "C", "x" * 99]
    )
    assert found["Deep Learning::Attention"] == "anki-deep-learning-attention"
    assert len(set(found.values())) == 7
    assert all(set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") and len(slug) < 75 for slug in found.values())
    assert naming.slugs(["大模型"])["大模型"] == found["大模型"]


def test_names_of_a_stranger_steer_nothing() -> None:
    assert naming.title("a\x07::\u202eb::") == "a › b"
    assert naming.title("::") == "anki"
    assert naming.tags_and_topic(["Topic::KV Cache!", "a\x07b", "\u202e"], "d") == (("ab",), "kv-cache")
    assert naming.own_card_id("llmquiz:kv-why") == ("kv-why", 0)
    assert naming.own_card_id("llmquiz:csv-1/2") == ("csv-1", 2)
    assert naming.card_id("\ud800").startswith("anki-")


def test_a_headline_is_the_first_line_that_says_something() -> None:
    assert naming.headline("```python\n\n## **What** is `x` in [this](https://a)?\n") == "What is x in this?"
    assert naming.headline("![a graph](x.png)") == "a graph"
    assert naming.headline("$\\frac{1}{2}$ of it") == "$\\frac{1}{2}$ of it"
    assert len(naming.headline("word " * 99)) <= 200
    assert naming.headline("\n") == ""


def test_media_are_named_in_tags_and_sounds() -> None:
    html = '<img src="a b.png"><img src=c.png><IMG alt="x" src=\'d.png\' />[sound:e.mp3]<img src="https://f/g.png">'
    assert naming.media_named(html) == {"a b.png", "c.png", "d.png", "e.mp3"}
    assert naming.media_named("src of truth") == set()


def test_almost_markup_without_end_takes_no_time() -> None:
    start = time.process_time()
    for piece in ("[sound:", "src=", "src='", "src= ", "src=\t\t", "<", "![", "](", "> ", "- "):
        for hostile in (piece * (100_000 // len(piece)), piece + " " * 100_000, piece + "x" * 100_000):
            naming.media_named(hostile)
            naming.language("字" + hostile)
            naming.headline(hostile)
    assert time.process_time() - start < 4
