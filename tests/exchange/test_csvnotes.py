"""CSV and TSV from spreadsheets and from Anki."""

from __future__ import annotations

import time
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmquiz.anki.archive.limits import Limits
from llmquiz.core.card import Lang
from llmquiz.core.errors import ImportFileError, UsageError
from llmquiz.exchange.csvnotes import Reading, read
from llmquiz.store.incoming import Incoming

from .arriving import LIMITS, faces, merged_twice, notes_of

CORPUS = Path(__file__).parent / "corpus"


def incoming(tmp_path: Path, data: str | bytes, name: str = "words.csv", **how: object) -> Incoming:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return read([path], LIMITS, Reading(**how))  # type: ignore[arg-type]


def cards(tmp_path: Path, data: str | bytes, name: str = "words.csv", **how: object) -> list[tuple[str, str]]:
    return [face for note in notes_of(incoming(tmp_path, data, name, **how)) for face in faces(note.card)]


def test_a_header_names_the_columns_and_what_is_left_stands_below_the_answer(tmp_path: Path) -> None:
    text = 'Tags,Question,Note,Answer\n"a, b",What is $x$?,see page 3,"one\ntwo"\n'
    (note,) = notes_of(incoming(tmp_path, text))
    assert faces(note.card) == [("What is $x$?", "one  \ntwo\n\n**Note**\n\nsee page 3")]
    assert note.card.tags == ("a", "b")
    assert (note.card.deck, list(note.card.texts)) == ("csv-words", [Lang.EN])


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_the_separator_is_found_though_prose_has_others(tmp_path: Path, mark: str) -> None:
    rows = [("How, so", "a; b"), ("What | which", "c"), ("Why", "d, e; f")]
    text = "".join(mark.join(f'"{cell}"' if mark in cell else cell for cell in row) + "\n" for row in rows)
    assert cards(tmp_path, text) == [(front, back) for front, back in rows]


def test_chinese_headers_and_gb18030(tmp_path: Path) -> None:
    found = incoming(tmp_path, "正面,背面,标签\n注意力机制的作用是什么,加权求和,基础\n".encode("gb18030"))
    (note,) = notes_of(found)
    assert faces(note.card) == [("注意力机制的作用是什么", "加权求和")]
    assert list(note.card.texts) == [Lang.ZH]
    assert "GB18030" in found.findings[0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_unicode_in_every_form(tmp_path: Path, encoding: str) -> None:
    assert cards(tmp_path, "naïve,中文\nsome more,text\n".encode(encoding))[0] == ("naïve", "中文")


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("latin-1", "Müller,für"),
        ("cp1251", "Привет,мир"),
        ("shift_jis", "ひらがな,カタカナ"),
        ("big5", "繁體中文,測試資料"),
    ],
)
def test_another_encoding_must_be_named(tmp_path: Path, encoding: str, text: str) -> None:
    with pytest.raises(ImportFileError, match=r"words\.csv:2: .*--encoding"):
        incoming(tmp_path, f"a,b\n{text}\n".encode(encoding))
    assert cards(tmp_path, f"a,b\n{text}\n".encode(encoding), encoding=encoding)[1] == tuple(text.split(","))


def test_what_anki_writes_into_the_first_lines(tmp_path: Path) -> None:
    text = (
        "#separator:tab\n#html:true\n#guid column:1\n#notetype column:2\n#deck column:3\n#tags column:6\n"
        "Hq~2f(b]kL\tBasic\tML::Nets\tWhat is <b>x</b>?\ta<br>b\tone two\n"
        "Ha~2f(b]kM\tBasic (and reversed card)\tML\tleft\tright\t\n"
        'Hb~2f(b]kN\tCloze\tML\t"{{c1::Paris}} is in {{c2::France::country}}"\tyes\t\n'
    )
    found = incoming(tmp_path, text, "notes.txt")
    notes = notes_of(found)
    assert [dict(deck.titles)[Lang.EN] for deck in found.decks] == ["ML › Nets", "ML"]
    assert notes[0].card.tags == ("one", "two")
    assert faces(notes[0].card)[0][0] == "What is **x**?"
    assert faces(notes[1].card) == [("left", "right"), ("right", "left")]
    assert faces(notes[2].card) == [
        (r"\[...\] is in France", "**Paris** is in France\n\nyes"),
        (r"Paris is in \[country\]", "Paris is in **France**\n\nyes"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("everything", [True, False])
def test_what_the_real_anki_exports(tmp_path: Path, everything: bool) -> None:
    collection = pytest.importorskip("anki.collection").Collection(str(tmp_path / "collection.anki2"))
    fields = {
        "Basic": ('What "is" <b>x</b>,<br>y;\tz?', '#one<br>"two"'),
        "Basic (and reversed card)": ("left", "right"),
        "Cloze": ("{{c1::Paris}} is in {{c2::France::a country}}", "capital"),
    }
    for name, (first, second) in fields.items():
        note = collection.new_note(collection.models.by_name(name))
        note.fields[:2], note.tags = [first, second], ["one", "two"]
        collection.add_note(note, collection.decks.id("ML::Nets"))
    names = ("with_html", "with_tags", "with_deck", "with_notetype", "with_guid")
    path = tmp_path / "notes.txt"
    collection.export_note_csv(out_path=str(path), limit=None, **dict.fromkeys(names, everything))
    collection.close()
    notes = notes_of(read([path], LIMITS))
    basic, both, cloze = (faces(note.card) for note in notes)
    if everything:
        assert basic[0][0].startswith('What "is" **x**,')
        assert "<br>" not in "".join(basic[0])
        assert both == [("left", "right"), ("right", "left")]
        assert {note.card.tags for note in notes} == {("one", "two")}
        assert {note.card.deck for note in notes} == {"csv-ml-nets-" + notes[0].card.deck[-6:]}
    assert cloze == [
        (r"\[...\] is in France", "**Paris** is in France\n\ncapital"),
        (r"Paris is in \[a country\]", "Paris is in **France**\n\ncapital"),
    ]


def test_an_edit_keeps_the_id_of_a_question_and_of_a_guid(tmp_path: Path) -> None:
    def ids(text: str) -> list[str]:
        return [note.card.id for note in notes_of(incoming(tmp_path, text))]

    assert ids("What?,this\n") == ids("What?,that\n") != ids("Why?,this\n")
    assert ids("guid,front,back\nabcdefghij,What?,this\n") == ids("guid,front,back\nabcdefghij,Which?,that\n")
    assert ids("id,front,back\n1,What?,this\n") == ids("id,front,back\n1,Which?,that\n")


def test_columns_deck_and_both_ways_by_hand(tmp_path: Path) -> None:
    found = incoming(tmp_path, "1,b,f,t\n", columns=("-", "back", "front", "tags"), deck="A::B", reverse=True)
    (note,) = notes_of(found)
    assert faces(note.card) == [("f", "b"), ("b", "f")]
    assert (note.card.tags, found.decks[0].titles[Lang.EN]) == (("t",), "A › B")


def test_rows_that_do_not_fit_are_named_by_their_lines(tmp_path: Path) -> None:
    found = incoming(tmp_path, 'one,a\n"two\nlines",a\n\nonly\none,again\nx,y,z\n,none\n')
    assert [faces(note.card)[0] for note in notes_of(found)] == [("one", "a"), ("two  \nlines", "a"), ("x", "y\n\nz")]
    name = tmp_path / "words.csv"
    assert found.findings == [
        f"{name}:5: 1 columns where the first row has 2",
        f"{name}:5: no answer; left out",
        f"{name}:6: the same question as {name}:1; left out",
        f"{name}:7: 3 columns where the first row has 2",
        f"{name}:8: no question; left out",
    ]


def test_html_is_text_unless_it_is_markup(tmp_path: Path) -> None:
    assert cards(tmp_path, "if a<b and c>d,x\n") == [("if a<b and c>d", "x")]
    assert cards(tmp_path, "a<br>b,<i>x</i>\n")[0][1] != "<i>x</i>"
    assert cards(tmp_path, "a<br>b,<i>x</i>\n", html=False) == [("a<br>b", "<i>x</i>")]


def test_what_steers_a_terminal_is_taken_out(tmp_path: Path) -> None:
    found = incoming(tmp_path, "a\x1b[31mb,c\u202ed &#8238; &amp;\n")
    assert [faces(note.card)[0] for note in notes_of(found)] == [("ab", "cd &amp;#8238; &amp;")]
    assert found.findings == ["control characters were taken out of 1 card"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no row has a question and an answer"),
        (b'a,b\nc,"d\ne,f\n', r"words\.csv:2: a quote is never closed"),
        (b"a,b\x00\n", r"words\.csv:1: holds a zero byte"),
        (b"PK\x03\x04\xff\xfe\x00\x01", r"words\.csv:1: neither UTF-8"),
        (b"a,b\n" + b"x" * 3000, r"words\.csv:2: line of more than 2,048 characters"),
        (b'a,"' + b"x\n" * 3000, r"words\.csv:1: row of more than 2,048 characters"),
        (b"a,b\nc,d\ne,f\ng,h\n", "more than 3 cards"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "words.csv").write_bytes(data)
    with pytest.raises(ImportFileError, match=message):
        notes_of(read([tmp_path / "words.csv"], Limits(field_kb=2, notes=3)))
    with pytest.raises(ImportFileError, match="not a regular file"):
        read([tmp_path], LIMITS)
    with pytest.raises(ImportFileError, match="cannot be read: no such file"):
        read([tmp_path / "nothing.csv"], LIMITS)


def test_options_that_make_no_sense(tmp_path: Path) -> None:
    for how in ({"separator": "word"}, {"encoding": "hex"}, {"columns": ("front", "front")}):
        with pytest.raises(UsageError):
            incoming(tmp_path, "a,b\n", **how)


def test_merged_twice_it_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "words.csv"
    path.write_text("deck,front,back\nA,{{c1::x}} and {{c2::y}},z\nB::C,左,右\n", encoding="utf-8")
    report = merged_twice(tmp_path, lambda: nullcontext(read([path], LIMITS)))
    assert (report.after.decks, report.after.notes, report.after.cards) == (2, 2, 3)


def test_what_fuzzing_found(tmp_path: Path) -> None:
    assert notes_of(read([CORPUS / "deletion-over-lines.csv"], LIMITS))
    start = time.process_time()
    found = incoming(tmp_path, f"a,b\n{'{{c1::x}}' * 5000},b\n")
    assert len(notes_of(found)) == 1
    assert "5,000 gaps" in found.findings[0]
    assert time.process_time() - start < 1


MARKS = [",", ";", "\t", "|", '"', '""', "\n", "\r", "{{c1::x}}", "{{c2::", "}}", "<b>", "$", "\\(", "-", "\x00"]
WORDS = ["front", "back", "Question,Answer\n", "tags", "id", "a", "中", "\x1b]0;x\x07", "\u202e", "&#8238;"]
HEADERS = ["#separator:tab\n", "#html:true\n", "#tags column:3\n", "#columns:a,b\n"]
TOKENS = st.sampled_from([*MARKS, *WORDS, *HEADERS])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(tokens=st.lists(TOKENS, max_size=40), encoding=st.sampled_from(["utf-8", "utf-16", "gb18030", "latin-1"]))
def test_no_file_is_met_with_another_error(
    tmp_path_factory: pytest.TempPathFactory, tokens: list[str], encoding: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.csv"
    path.write_bytes("".join(tokens).encode(encoding, "replace"))
    with suppress(ImportFileError):
        notes_of(read([path], LIMITS))
