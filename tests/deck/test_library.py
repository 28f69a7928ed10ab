"""A broken deck hides no other one and loses no card; names and ids are used once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmquiz import locations
from llmquiz.core.card import Lang
from llmquiz.core.errors import UsageError
from llmquiz.deck.library import Folder, Library, folder_of, folders_of, load_into
from llmquiz.store import Store
from tests.support.privilege import ordinary_user


def write(folder: Path, name: str, *ids: str, body: str = "A.") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.en.md"
    cards = "".join(f"## What is {card_id}? {{#{card_id} topic=kv-cache}}\n\n{body}\n\n" for card_id in ids)
    path.write_text(f"# {name.title()}\n\n{cards}")
    return path


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tmp_path / "mine"


@pytest.fixture
def library(mine: Path) -> Library:
    return Library([Folder(mine, builtin=False)])


def again(library: Library) -> Library:
    return Library(library.folders)


def test_finds_pairs_and_orders_them(mine: Path, library: Library) -> None:
    write(mine, "b-deck", "b")
    (mine / "b-deck.zh.md").write_text("# 乙\n\n## 问？ {#b}\n\n答。\n")
    write(mine, "a-deck", "a").write_text("# A {order=2}\n")
    assert [(deck.id, set(deck.titles)) for deck in library.decks()] == [
        ("b-deck", {Lang.EN, Lang.ZH}),
        ("a-deck", {Lang.EN}),
    ]
    assert library.findings == []


def test_a_broken_deck_hides_no_other(mine: Path, library: Library) -> None:
    write(mine, "good", "a")
    write(mine, "bad", "b").write_text("no title")
    assert [deck.id for deck in library.decks()] == ["good"]
    assert library.broken == {"bad"}
    assert library.findings


@pytest.mark.parametrize(
    ("name", "words"), [("notes.md", "is not read"), ("a.fr.md", "is not read"), ("A_B.en.md", "lower-case")]
)
def test_other_files_are_named(mine: Path, library: Library, name: str, words: str) -> None:
    mine.mkdir()
    (mine / name).write_text("# T\n")
    assert words in library.findings[0].problem


def test_a_readme_is_left_alone(mine: Path, library: Library) -> None:
    mine.mkdir()
    (mine / "README.md").write_text("hello")
    assert library.findings == []


def test_a_users_deck_cannot_take_the_name_of_a_shipped_one(tmp_path: Path, mine: Path) -> None:
    shipped = tmp_path / "shipped"
    write(shipped, "deck", "a")
    (shipped / "deck.zh.md").write_text("# 甲\n\n## 问？ {#a}\n\n答。\n")
    write(mine, "deck", "b")
    library = Library([Folder(shipped, builtin=True), Folder(mine, builtin=False)])
    assert [(deck.id, deck.builtin) for deck in library.decks()] == [("deck", True)]
    assert library.findings[0].place.path.parent == mine


def test_a_users_deck_cannot_take_the_id_of_a_shipped_card(tmp_path: Path, mine: Path) -> None:
    write(tmp_path / "one", "one", "a")
    write(mine, "two", "a", "b")
    library = Library([Folder(tmp_path / "one", builtin=False), Folder(mine, builtin=False)])
    assert [deck.id for deck in library.decks()] == ["one"]
    assert "taken by deck 'one'" in library.findings[0].problem


def test_a_shipped_deck_needs_both_languages(mine: Path) -> None:
    write(mine, "deck", "a")
    assert [it.rule for it in Library([Folder(mine, builtin=True)]).findings] == ["F03"]


def test_no_folder_is_no_deck(library: Library) -> None:
    assert library.decks() == []


def test_the_fingerprint_follows_the_files(mine: Path, library: Library) -> None:
    path = write(mine, "deck", "a")
    before = library.fingerprint()
    assert library.fingerprint() == before
    os.utime(path, ns=(0, 0))
    touched = library.fingerprint()
    write(mine, "other", "b")
    assert len({before, touched, library.fingerprint()}) == 3


def test_tells_where_a_card_stands(mine: Path, library: Library) -> None:
    path = write(mine, "deck", "a", "b")
    place = library.source("b", Lang.ZH)
    assert (place.path, place.line) == (path, 7)
    with pytest.raises(UsageError, match="no deck has a card 'c'"):
        library.source("c", Lang.EN)


def test_loads_only_what_changed(mine: Path, library: Library) -> None:
    write(mine, "deck", "a", "b")
    with Store.open() as store:
        report = load_into(store, now=1.0, library=library)
        assert report is not None
        assert report.added == 2
        assert load_into(store, now=2.0, library=again(library)) is None
        write(mine, "deck", "a")
        report = load_into(store, now=3.0, library=again(library))
        assert report is not None
        assert report.archived == 1


def test_a_deck_that_broke_keeps_its_cards(mine: Path, library: Library) -> None:
    path = write(mine, "deck", "a", "b")
    with Store.open() as store:
        load_into(store, now=1.0, library=library)
        path.write_text(path.read_text() + "## broken\n")
        report = load_into(store, now=2.0, library=again(library))
        assert report is not None
        assert report.archived == 0
        assert {card.id for card in store.cards()} == {"a", "b"}


def test_a_deck_whose_files_are_gone_is_archived_and_comes_back(mine: Path, library: Library) -> None:
    path = write(mine, "deck", "a")
    text = path.read_text()
    with Store.open() as store:
        load_into(store, now=1.0, library=library)
        path.unlink()
        report = load_into(store, now=2.0, library=again(library))
        assert report is not None
        assert report.archived == 1
        path.write_text(text)
        report = load_into(store, now=3.0, library=again(library))
        assert report is not None
        assert report.restored == 1


def test_an_unreadable_folder_archives_nothing(mine: Path, library: Library) -> None:
    write(mine, "deck", "a")
    with Store.open() as store:
        load_into(store, now=1.0, library=library)
        mine.chmod(0)
        with ordinary_user():
            report = load_into(store, now=2.0, library=again(library))
        mine.chmod(0o700)
        assert report is not None
        assert report.archived == 0


def test_a_folder_that_is_a_file_archives_nothing(mine: Path, library: Library) -> None:
    write(mine, "deck", "a").unlink()
    write(mine, "deck", "a")
    with Store.open() as store:
        load_into(store, now=1.0, library=library)
        mine.rename(mine.with_name("moved"))
        mine.write_text("not a folder")
        report = load_into(store, now=2.0, library=again(library))
        assert report is not None
        assert report.archived == 0


def test_a_path_is_a_folder_or_a_deck_file(mine: Path) -> None:
    path = write(mine, "deck", "a")
    write(mine, "other", "b")
    assert [deck.id for deck in Library([folder_of(path)]).decks()] == ["deck"]
    assert len(Library([folder_of(mine)]).decks()) == 2
    assert folder_of(locations.shipped("decks")).builtin
    assert len(Library(folders_of([path, mine / "other.en.md"])).decks()) == 2
    assert folders_of([path, mine, path]) == [Folder(mine, builtin=False)]
    for wrong in (mine / "none.en.md", mine / "none"):
        with pytest.raises(UsageError, match="no such file"):
            folder_of(wrong)
    (mine / "a.txt").write_text("")
    with pytest.raises(UsageError, match="not a deck file"):
        folder_of(mine / "a.txt")
