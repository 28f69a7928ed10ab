"""Notes of Obsidian with cards of its spaced-repetition plugin."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmquiz.anki.importing.sm2 import Recaller
from llmquiz.cli.main import main
from llmquiz.core.card import Lang
from llmquiz.core.errors import ImportFileError
from llmquiz.core.fsrs import stored
from llmquiz.core.options import DAY_SECONDS
from llmquiz.core.schedule import Memory, State
from llmquiz.exchange.clozemarks import BOLD, CURLY, HIGHLIGHT, pattern
from llmquiz.exchange.clozemarks import faces as cloze_faces
from llmquiz.exchange.obsidian import read
from llmquiz.exchange.srcomment import CommentError, Comments
from llmquiz.store.incoming import Incoming, IncomingNote

from .arriving import CALENDAR, LIMITS, faces, merged_twice, notes_of

TAG = "#flashcards\n\n"


def vault_of(tmp_path: Path, text: str, name: str = "note.md", **plugin: object) -> Path:
    vault = tmp_path / "vault"
    place = vault / ".obsidian" / "plugins" / "obsidian-spaced-repetition"
    place.mkdir(parents=True, exist_ok=True)
    if plugin:
        (place / "data.json").write_text(json.dumps({"settings": plugin}), encoding="utf-8")
    (vault / name).parent.mkdir(exist_ok=True)
    (vault / name).write_text(text, encoding="utf-8")
    return vault


def taken(path: Path) -> tuple[Incoming, list[IncomingNote]]:
    with read([path], LIMITS, CALENDAR) as incoming:
        return incoming, notes_of(incoming)


def cards(tmp_path: Path, text: str, **plugin: object) -> list[list[tuple[str, str]]]:
    return [faces(note.card) for note in taken(vault_of(tmp_path, text, **plugin))[1]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a::b\n", [("a", "b")]),
        ("text before\n- a :: b ^block-1\ntext after\n", [("a", "b")]),
        ("1. a:::b\n", [("a", "b"), ("b", "a")]),
        ("call `x::y` of `z`::b\n", [("call `x::y` of `z`", "b")]),
        ("a\nb\n?\nc\n- d\n", [("a  \nb", "c  \n- d")]),
        ("a\n??\nb\n", [("a", "b"), ("b", "a")]),
        ("a\n?\n```\nx::y\n\nz\n```\n", [("a", "```\nx::y\n\nz\n```")]),
        ("==a== is ==b;;a hint==\n", [(r"\[...\] is b", "**a** is b"), (r"a is \[a hint\]", "a is **b**")]),
        ("==2;;a== ==1;;b== ==2;;c==\n", [(r"a \[...\] c", "a **b** c"), (r"\[...\] b \[...\]", "**a** b **c**")]),
        ("==ah;;a== ==ha;;b==\n", [(r"\[...\] \[...\]", r"**a** \[...\]"), (r"\[...\] \[...\]", r"\[...\] **b**")]),
        (
            "`==x==` and $a==b==c$ and ==y==\n",
            [(r"`==x==` and $a==b==c$ and \[...\]", "`==x==` and $a==b==c$ and **y**")],
        ),
        ("see [[Page#part|the page]] and [[Other]]::<br>b\n", [("see the page and Other", "b")]),
    ],
)
def test_every_kind_of_card(tmp_path: Path, text: str, expected: list[tuple[str, str]]) -> None:
    assert cards(tmp_path, TAG + text) == [expected]


def test_what_is_no_card(tmp_path: Path) -> None:
    text = "<!-- a::b -->\n<!--\nc::d\n-->\n```\ne::f\n```\n\n?\n\nx::y\n\n::z\n\nw::\n\n**bold** {{curly}}\n"
    assert cards(tmp_path, TAG + text) == [[("x", "y")]]


def test_an_empty_callout_swallows_nothing(tmp_path: Path) -> None:
    assert cards(tmp_path, TAG + "a::b\n> [!sr|card-metadata]\n\nc::d\n") == [[("a", "b")], [("c", "d")]]


def test_settings_of_the_plugin(tmp_path: Path) -> None:
    marks = {"singleLineCardSeparator": "=>", "multilineCardSeparator": "--", "multilineCardEndMarker": "+++"}
    text = "#cards/x\n\na=>b::c\n\nd\n--\ne\n\nf\n+++\n**g** h==i==\n+++\n"
    found = cards(tmp_path, text, flashcardTags=["#cards"], clozePatterns=[BOLD], **marks)
    assert found == [[("a", "b::c")], [("d", "e\n\nf")], [(r"\[...\] h==i==", "**g** h==i==")]]


@pytest.mark.parametrize(
    ("written", "text", "expected"),
    [
        (HIGHLIGHT, "===a=== b", [(r"\[...\]= b", "**=a**= b")]),
        (CURLY, "$\\frac{{a}}{b}$ {{c}}", [(r"$\frac{{a}}{b}$ \[...\]", r"$\frac{{a}}{b}$ **c**")]),
        ("{{[123::]answer[::hint]}}", "{{1::a::h}} {{2::b}}", [(r"\[h\] b", "**a** b"), (r"a \[...\]", "a **b**")]),
        ("==answer==[^\\\\[hint\\\\]][\\\\[^123\\\\]]", "==a==^[h][^1] ==b==[^1]", [(r"\[h\] \[...\]", "**a** **b**")]),
    ],
)
def test_cloze_patterns(written: str, text: str, expected: list[tuple[str, str]]) -> None:
    found = pattern(written)
    assert found is not None
    assert cloze_faces(text, [found]) == expected


def test_patterns_that_mark_nothing() -> None:
    assert [pattern(it) for it in ("", "answer", "==answer", "answer==", "==", "[123]answer[hint]")] == [None] * 6


def test_decks_by_tag(tmp_path: Path) -> None:
    text = (
        "---\ntags:\n  - flashcards/ml\n  - exam\n---\na::1\n\n#flashcards/nlp/tokens\n\nb::2\n\n"
        "#flashcards/own #x c::3\n\n#other d::4\n"
    )
    vault = vault_of(tmp_path, text)
    vault_of(tmp_path, "std::vector\n", "code.md")
    incoming, notes = taken(vault)
    titles = {deck.id: deck.titles[Lang.EN] for deck in incoming.decks}
    found = [(titles[note.card.deck], *faces(note.card)[0], note.card.tags) for note in notes]
    assert found == [
        ("ml", "a", "1", ("exam",)),
        ("nlp › tokens", "b", "2", ("exam",)),
        ("own", "c", "3", ("exam", "x")),
        ("nlp › tokens", "d", "4", ("exam", "other")),
    ]


def test_decks_by_folder(tmp_path: Path) -> None:
    vault = vault_of(tmp_path, "a::b\n", "area/note.md", convertFoldersToDecks=True)
    vault_of(tmp_path, "#flashcards/x\n\nc::d\n", "top.md")
    incoming, _ = taken(vault)
    assert [deck.titles[Lang.EN] for deck in incoming.decks] == ["top", "area"]
    assert not incoming.findings
    (vault / ".obsidian" / "plugins" / "obsidian-spaced-repetition" / "data.json").unlink()
    (vault / "top.md").unlink()
    incoming, _ = taken(vault)
    assert "no note has the tag #flashcards" in incoming.findings[0]


def test_an_edited_answer_keeps_the_card_wherever_the_import_starts(tmp_path: Path) -> None:
    vault = vault_of(tmp_path, TAG + "a::b\n", "area/note.md")
    _, (before,) = taken(vault)
    vault_of(tmp_path, TAG + "text\n- a::c <!--SR:!2023-09-02,4,270-->\n", "area/note.md")
    for path in (vault, vault / "area", vault / "area" / "note.md"):
        _, (after,) = taken(path)
        assert after.card.id == before.card.id
    vault_of(tmp_path, TAG + "a::b\n\na::c\n", "area/note.md")
    incoming, notes = taken(vault)
    assert len(notes) == 1
    assert f"note.md:5: the same question as {vault / 'area' / 'note.md'}:3" in incoming.findings[0]


@pytest.mark.parametrize(
    "text",
    [
        "a:::b\n<!--SR:!2023-09-02,4,270!2000-01-01,1,250-->\n",
        "a:::b <!--SR:!2023-09-02,4,270!2000-01-01,1,250--> ^id\n",
        "a:::b\n> [!sr|card-metadata] \n> <!--SR:!2023-09-02,4,270!2000-01-01,1,250-->\n",
        "a\n??\nb\n<!--SR:!2023-09-02,4,270!2000-01-01,1,250-->\n",
        "a\n??\nb\n> [!sr|card-metadata] \n> <!--SR:!2023-09-02,4,270!2000-01-01,1,250-->\n",
    ],
)
def test_schedules_wherever_the_comment_stands(tmp_path: Path, text: str) -> None:
    _, (note,) = taken(vault_of(tmp_path, TAG + text))
    assert faces(note.card) == [("a", "b"), ("b", "a")]
    answered, new = (part.schedule for part in note.parts)
    due = date(2023, 9, 2).toordinal()
    assert (answered.state, answered.due, answered.interval) == (State.REVIEW, due, 4)
    assert answered.last_review == CALENDAR.start(due - 4) + DAY_SECONDS / 2
    assert CALENDAR.day(answered.last_review) == due - 4
    assert answered.memory == stored(Recaller((), CALENDAR).from_ease(2700, 4))
    assert new.state is State.NEW


def test_entries_of_every_form() -> None:
    comments = Comments(CALENDAR)
    old, legacy, words = comments.schedules("!2023-09-02,4!02-09-2023,4,250!Sat Sep 02 2023,4.2,250")
    assert old == legacy == words
    entry = "!fsrs,2026-06-20T08:00:00.000Z,12,12.3,4.5,{},5,1,0,2026-06-08T08:00:00.000Z"
    (review,) = comments.schedules(entry.format(2))
    assert review is not None
    assert (review.due, review.memory) == (date(2026, 6, 20).toordinal(), Memory(12.3, 4.5))
    assert (review.reps, review.lapses) == (5, 1)
    (learning,) = comments.schedules(entry.format(1))
    assert learning is not None
    assert (learning.state, learning.due) == (State.LEARNING, datetime(2026, 6, 20, 8, tzinfo=UTC).timestamp())
    assert comments.schedules(entry.format(0)) == [None]
    for wrong in (
        "x",
        "1,2,3",
        "2023-13-01,1,250",
        "2023-09-02,nan,250",
        "1023-09-02,1,250",
        "fsrs,1",
        "9999-12-31,1,1",
    ):
        with pytest.raises(CommentError):
            comments.schedules(wrong)


def test_a_schedule_that_cannot_be_read_and_notes_that_are_cards(tmp_path: Path) -> None:
    text = "---\nsr-due: 2024-07-01\nsr-interval: 3\n---\n" + TAG + "a::b\n<!--SR:!soon,4,270-->\n"
    incoming, (note,) = taken(vault_of(tmp_path, text))
    assert note.parts[0].schedule.state is State.NEW
    assert "reviews of 1 were left out" in incoming.findings[0]
    assert "note.md:7: schedule 'soon' is no date; the card comes in as new" in incoming.findings[1]


def test_merged_twice_it_changes_nothing(tmp_path: Path) -> None:
    text = TAG + "a::b ![[pic.png|100]]\n<!--SR:!2023-09-02,4,270-->\n\n==c== d ==e==\n"
    vault = vault_of(tmp_path, text)
    (vault / "files").mkdir()
    (vault / "files" / "pic.png").write_bytes(b"picture")
    report = merged_twice(tmp_path, lambda: read([vault], LIMITS, CALENDAR))
    assert (report.after.notes, report.after.cards, report.after.media) == (2, 3, 1)
    assert not report.findings


def test_the_command_shows_asks_and_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("llmquiz.locations.shipped", lambda kind: tmp_path / "nothing" / kind)
    vault = vault_of(tmp_path, TAG + "a::b\n")
    (tmp_path / "words.csv").write_text("c,d\n", encoding="utf-8")
    for command, path, cards in (("markdown", vault, 1), ("csv", tmp_path / "words.csv", 2)):
        assert main(["import", command, str(path), "--dry-run", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["imported"] is False
        assert main(["import", command, str(path), "--yes", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["after"]["cards"] == cards
        assert main(["import", command, str(path), "--yes", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["nothing"] is True
    assert main(["import", "markdown", str(vault), "--format", "word"]) == 2
    assert main(["import", "csv", str(tmp_path / "words.csv"), "--lang", "fr"]) == 2
    assert capsys.readouterr().err.count("llmquiz: error: ") == 2


def test_very_long_lines_cost_no_time(tmp_path: Path) -> None:
    lines = (
        "==" * 15_000,
        "{{" * 15_000,
        "==" + ";;a" * 9_000,
        "`::" * 9_000,
        "[[" * 15_000,
        "(#" * 15_000,
        "x==y== " * 3_000,
    )
    vault = vault_of(tmp_path, TAG + "a::b\n\n" + "\n\n".join(lines), clozePatterns=[HIGHLIGHT, BOLD, CURLY])
    start = time.process_time()
    with suppress(ImportFileError):
        taken(vault)
    assert time.process_time() - start < 2


MARKS = [
    "::",
    ":::",
    "\n",
    "\n\n",
    "\n?\n",
    "\n??\n",
    "==",
    "1;;",
    ";;",
    "`",
    "$",
    "```\n",
    "<!--",
    "-->",
    "- ",
    "---\n",
]
ENTRIES = [
    "<!--SR:!2023-09-02,4,270-->",
    "<!--SR:!",
    "> [!sr|card-metadata]\n",
    "#flashcards/x ",
    " ^id",
    "tags: [a]\n",
]
TOKENS = st.sampled_from(
    [*MARKS, *ENTRIES, "---\n", "tags: [a]\n", "a", "中", "[[p|q]]", "![[x.png]]", "\x1b[31m", "&#8238;"]
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(tokens=st.lists(TOKENS, max_size=40))
def test_no_note_is_met_with_another_error(tmp_path_factory: pytest.TempPathFactory, tokens: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.md"
    path.write_text("".join(tokens), encoding="utf-8")
    with suppress(ImportFileError):
        taken(path)
