"""The library as Markdown: deck files that are read again, and a history that a person reads."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from llmquiz.core.card import Card, CardText, Deck, Lang
from llmquiz.core.day import Calendar
from llmquiz.deck.library import Folder, Library
from llmquiz.deck.parse import parse_text
from llmquiz.exchange import deckwriting, librarymarkdown
from llmquiz.exchange.chosen import StoredDeck
from llmquiz.exchange.libraryfiles import Home
from llmquiz.exchange.librarymarkdown import MarkdownReport
from llmquiz.store import Store
from llmquiz.store.codec import digest
from tests.exchange.libraries import PICTURE, command, fill, home_in, note, unrender
from tests.support.making import NOON, make_card, make_deck

HISTORY = """# Deck: history

## Why a? (`a`)

Review, due 2024-04-24, interval 9 days, stability 12.35 days, difficulty 5.1, answers 3, lapses 1, leech, flag 2

| answered | rating | before | interval | stability (days) | difficulty (1-10) | recall before | time (s) |
| --- | --- | --- | --- | --- | --- | --- | --- |
| 2026-09-21 14:13 +00:00 | good | review | 9 d | 12.3 | 5.1 | 91% | 4.2 |
| 2026-09-21 14:13 +00:00 | again (undone) | review | 10 min |  |  |  | 0.1 |

Experiments:

| started | lab | outcome | time (s) | device | measured |
| --- | --- | --- | --- | --- | --- |
| 2026-09-21 14:13 +00:00 | kvcache | ok | 1.5 | cpu | speedup 2.5 |

Guesses:

| guessed | metric | guess | measured | verdict |
| --- | --- | --- | --- | --- |
| 2026-09-21 14:13 +00:00 | speedup | 3 | 2.5 | good |

"""


@pytest.fixture
def library(home: Path) -> Home:
    here = home_in(home)
    fill(here)
    return here


def written(home: Home, out: Path, *decks: str) -> MarkdownReport:
    with Store.open(home.database) as store:
        return librarymarkdown.export(store, decks, out, calendar=Calendar(zone=UTC), media=home.media)


def read(folder: Path) -> dict[str, Deck]:
    """The decks in `folder`, every file of them sound."""
    library = Library([Folder(folder, builtin=False)])
    decks = {deck.id: deck for deck in library.decks()}
    assert library.findings == []
    return decks


def test_decks_are_read_again_as_they_were(library: Home, tmp_path: Path) -> None:
    report = written(library, tmp_path / "out")
    decks = read(tmp_path / "out")
    with Store.open(library.database) as store:
        stored = [card for card in store.cards("deck") if set(card.texts) == set(Lang)]
        assert list(map(digest, decks["deck"].cards)) == list(map(digest, stored))
        assert [card.id for card in read(tmp_path / "out" / "archived")["deck"].cards] == ["gone"]
    assert decks["deck"].intros[Lang.EN] == "About."
    assert report.counts == {"decks": 2, "cards": 5, "reviews": 2, "runs": 2, "predictions": 1, "media": 1}
    assert report.bytes == sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file())


def test_notes_are_open_cards_with_all_of_their_text(library: Home, tmp_path: Path) -> None:
    report = written(library, tmp_path / "out", "anki-spanish")
    (card,) = read(tmp_path / "out")["anki-spanish"].cards
    text = card.texts[Lang.EN]

    assert (card.id, text.front, card.tags) == ("anki-1", "el perro", ("a", "b"))
    assert (text.answer, text.detail) == (
        "de la casa ![dog](dog.png)",
        "the dog\n\n**Face 2**\n\nthe dog\n\nel perro",
    )
    assert (tmp_path / "out" / "media" / "dog.png").read_bytes() == PICTURE
    assert report.findings == [
        "deck 'anki-spanish': 1 notes are written as open cards, 1 of them with several faces in one card"
    ]


def test_a_note_without_faces_is_written_with_them_and_their_pictures(library: Home, tmp_path: Path) -> None:
    unrender(library)
    written(library, tmp_path / "out", "anki-spanish")
    (card,) = read(tmp_path / "out")["anki-spanish"].cards
    text = card.texts[Lang.EN]
    assert (text.front, text.answer) == ("dog.png front", "![dog.png](dog.png) front")  # not its answer
    assert text.detail == "**back**\n\n**Face 2**\n\n**back**\n\nfront (Languages::Spanish)"
    assert (tmp_path / "out" / "media" / "dog.png").read_bytes() == PICTURE


def test_the_history_is_a_table_for_each_card(library: Home, tmp_path: Path) -> None:
    written(library, tmp_path / "out")
    folder = tmp_path / "out" / "history"
    assert sorted(path.name for path in folder.iterdir()) == ["_labs.md", "deck.md"]  # the note was never answered
    assert (folder / "deck.md").read_text(encoding="utf-8") == HISTORY
    assert "| flash | failed | 1.5 | cpu | out \\| of luck |" in (folder / "_labs.md").read_text(encoding="utf-8")


STRANGE = (
    "# a heading", "### Pitfall", "## Q {#id topic=t}", "```python", "~~~", "````", "{{c1::hidden}}", "&#27;[2J", "---",
    "&lrm;x", "[a](http://x/%E2%80%AE)", "- item", "| a | b |", "$$", "\x1b[2J", "\u202e", "<b>", "    code", "\\",
    "x" * 25_000, "", " ", "{#a}", "el perro", "为什么？", "%", "&", "\r", "1. one",
)  # fmt: skip
LINES = st.lists(st.sampled_from(STRANGE) | st.text(max_size=5), max_size=6).map("\n".join)


@settings(max_examples=60, deadline=None, derandomize=True, phases=[Phase.generate])
@given(st.lists(st.tuples(LINES, LINES), min_size=1, max_size=2), LINES, st.sampled_from(STRANGE))
def test_any_note_is_written_and_read(faces: list[tuple[str, str]], front: str, tag: str) -> None:
    card = note("anki-1", *faces)
    card = replace(card, tags=(tag,), texts={Lang.EN: replace(card.texts[Lang.EN], front=front)})
    findings: list[str] = []
    deck = deckwriting._deck(StoredDeck("anki-a", {Lang.EN: front}, {Lang.EN: front}, 3), [card], findings)
    texts = deckwriting._sound(deck, findings)
    (back,) = parse_text(texts[Lang.EN], Path("anki-a.en.md"), Lang.EN).cards
    assert back.id == "anki-1"
    said = back.texts[Lang.EN].front + back.texts[Lang.EN].answer + back.texts[Lang.EN].detail
    assert not any("does not fit" in finding for finding in findings)
    for side in (part for face in faces for part in face):
        if "el perro" in side:
            assert "el perro" in said


def test_a_card_that_the_format_cannot_hold_is_quoted(tmp_path: Path) -> None:
    card = make_card("a", texts={Lang.EN: CardText("Q?", "## not a card", "&#27;", ("- x\n\n- y",))})
    findings: list[str] = []
    deckwriting.write_deck(tmp_path, StoredDeck("deck", {Lang.EN: "Deck"}, {}, 0), [card, make_card("b")], findings)
    quoted, other = read(tmp_path)["deck"].cards
    assert "## not a card" in quoted.texts[Lang.EN].answer
    assert digest(other) == digest(make_card("b"))
    assert findings == ["card 'a' does not fit the deck format; its text is quoted in an open card"]


def test_a_large_deck_becomes_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deckwriting, "_MAX_BYTES", 200)
    cards = [make_card(f"c-{number}") for number in range(12)]
    files = deckwriting.write_deck(tmp_path, StoredDeck("deck", {Lang.EN: "Deck"}, {}, 0), cards, [])
    decks = read(tmp_path)
    assert len(decks) == files > 2
    assert decks["deck-2"].titles == {Lang.EN: "Deck (2)"}
    names = ["deck", *(f"deck-{number}" for number in range(2, files + 1))]
    assert [card.id for name in names for card in decks[name].cards] == [card.id for card in cards]


def test_names_cannot_leave_the_folder(library: Home, tmp_path: Path) -> None:
    with Store.open(library.database) as store:
        store.sync([Deck("../../up", {Lang.EN: "Up"}, (_evil(),), position=3)], now=NOON)
    (tmp_path / "deep").mkdir()
    written(library, tmp_path / "deep" / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "home"]
    assert [deck for deck in read(tmp_path / "deep" / "out") if deck.startswith("deck-")]


def _evil() -> Card:
    return make_card("../evil", "../../up")


def test_a_language_that_is_missing_is_told(tmp_path: Path) -> None:
    deck = make_deck(make_card("a"), make_card("b", chinese="为何？"))
    findings: list[str] = []
    stored = StoredDeck("deck", {Lang.EN: "Deck", Lang.ZH: "卡组"}, {}, 0)
    deckwriting.write_deck(tmp_path, stored, deck.cards, findings)
    assert read(tmp_path)["deck"].cards[0].texts[Lang.ZH].front == "Why a?"
    assert findings == ["deck 'deck': 1 cards lack a language; both files have the one that is there"]


def test_the_command(
    library: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmquiz.locations.shipped", lambda kind: tmp_path / "nothing" / kind)
    out = tmp_path / "out"
    command("export", "markdown", "-o", str(out), "--json")
    report = json.loads(capsys.readouterr().out)
    assert report["path"] == str(out)
    assert (report["decks"], report["cards"], report["reviews"], report["media"]) == (3, 6, 2, 1)
    assert "README.md" in {path.name for path in out.iterdir()}
    command("export", "markdown", "mine", "-o", str(tmp_path / "mine"))
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{tmp_path / 'mine'} (decks: 1, cards: 1, ")
    assert captured.err == ""
