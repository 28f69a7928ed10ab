"""The whole library to one JSON file and back: exactly, or not at all."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from llmquiz.anki.archive.limits import Limits
from llmquiz.core.card import Lang
from llmquiz.core.errors import ExportError, ImportFileError, StoreError, UsageError
from llmquiz.exchange import libraryfiles, pulljson, restoring
from llmquiz.exchange.libraryfiles import Home
from llmquiz.exchange.libraryjson import encoded, export
from llmquiz.store import Store, backup, health
from llmquiz.store.codec import encode_card
from llmquiz.store.migrations import LATEST
from tests.exchange.libraries import PICTURE, command, empty, fill, home_in, note, old, rows, rows_of, unrender
from tests.store.notes import add_note, add_notetype, notetype
from tests.support.making import make_card

KILLED = """import sys; from pathlib import Path; from llmquiz.exchange import restoring
from llmquiz.exchange.libraryfiles import Home
one, other, data = map(Path, sys.argv[1:]); home = Home(data / "llmquiz.db", data / "decks", data / "media")
print(flush=True)
while True:
    for source in (one, other):
        with source.open("rb") as file, restoring.arrived(file, source.name, home) as new: restoring.replace(new, home)
"""


@pytest.fixture
def library(home: Path) -> Home:
    """The user's own library, with something of everything."""
    here = home_in(home)
    fill(here)
    return here


def exported(home: Home, **options: bool) -> bytes:
    out = io.BytesIO()
    with Store.open(home.database, read_only=True) as store:
        export(store.connection, out, home, **options)  # type: ignore[arg-type]
    return out.getvalue()


def bring(data: bytes, home: Home, **options: Limits) -> restoring.Arrived:
    with restoring.arrived(io.BytesIO(data), "library.json", home, **options) as new:  # type: ignore[arg-type]
        restoring.replace(new, home)
        return new


def test_everything_comes_back_as_it_was(library: Home, tmp_path: Path) -> None:
    data = exported(library)
    there = home_in(tmp_path / "other")
    new = bring(data, there)

    assert rows(there.database) == rows(library.database)
    assert all(new.rows.values())  # no table was left untested
    assert new.findings == []
    assert (there.decks / "mine.en.md").read_bytes() == (library.decks / "mine.en.md").read_bytes()
    assert (there.media / "dog.png").read_bytes() == PICTURE
    assert health.inspect(there.database).problems == ()
    with Store.open(there.database) as store:
        assert [hit.card_id for hit in store.search("perro")] == ["anki-1"]
    assert exported(there) == data


def test_a_note_without_faces_comes_back_with_what_they_are_made_of(library: Home, tmp_path: Path) -> None:
    unrender(library)
    data, there = exported(library), home_in(tmp_path / "other")
    bring(data, there)
    assert exported(there) == data
    with Store.open(there.database) as store:
        assert [face.back for face in store.card("anki-1").text(Lang.EN).faces] == [
            "**back**",
            "front (Languages::Spanish)",
        ]
        assert [hit.card_id for hit in store.search("front back")] == ["anki-1"]


def test_a_note_without_faces_and_fields_is_refused(library: Home, tmp_path: Path) -> None:
    unrender(library)
    with Store.open(library.database) as store, store.transaction() as connection:
        connection.execute("DELETE FROM anki_note")
    with pytest.raises(ImportFileError, match=r"note 'anki-1' has no faces, and no fields in the table"):
        bring(exported(library), home_in(tmp_path / "other"))


def test_faces_in_a_file_of_an_older_schema_are_made_anew(tmp_path: Path) -> None:
    home, out = home_in(tmp_path), io.BytesIO()
    with closing(old(6)) as store:
        add_notetype(store, notetype(("{{Front}}", "{{Back}}"), ("{{Back}}", "{{Front}}")))
        add_note(store, "anki-a", "el perro", "the dog")
        rendered = encode_card(note("anki-a", ("x", "y"), ("v", "w")))
        store.execute("UPDATE card SET content = ? WHERE id = 'anki-a'", (rendered,))
        export(store, out, home)
    assert bring(out.getvalue(), home).findings == []
    with Store.open(home.database) as library:
        assert [face.front for face in library.card("anki-a").text(Lang.EN).faces] == ["el perro", "the dog"]
        assert [hit.card_id for hit in library.search("perro")] == ["anki-a"]


def test_the_file_is_json_with_a_row_a_line(library: Home) -> None:
    text = exported(library).decode()
    whole = json.loads(text)

    assert list(whole) == ["format", "version", "schema", "tables", "decks", "media", "end"]
    assert (whole["format"], whole["version"], whole["schema"]) == ("llmquiz library", 1, LATEST)
    count = sum(len(table["rows"]) for table in whole["tables"].values())
    assert whole["end"]["rows"] == count
    for table in whole["tables"].values():
        assert all(f"\n{json.dumps(row, ensure_ascii=False, separators=(',', ':'))}" in text for row in table["rows"])


@pytest.mark.parametrize("indent", [None, 1, "\t"])
def test_spaces_between_change_nothing(library: Home, tmp_path: Path, indent: int | str | None) -> None:
    text = json.dumps(json.loads(exported(library)), indent=indent)  # with \u escapes, too
    bring(text.encode(), home_in(tmp_path / "other"))
    assert rows(home_in(tmp_path / "other").database) == rows(library.database)


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
SAFE = st.text("aé中🐕\n\t \\\"'<&=", max_size=12)
WHOLE = st.integers(-(2**63), 2**63 - 1)
SMALL = st.integers(0, 9)
REAL = st.floats(allow_nan=False, allow_infinity=False)
MAYBE = st.none() | REAL
JSON = st.recursive(st.none() | REAL | SAFE, lambda it: st.lists(it, max_size=2), max_leaves=3).map(json.dumps)
OBJECT = st.dictionaries(SAFE, REAL | SAFE, max_size=2).map(json.dumps)


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_any_library_comes_back_as_it_was(tmp_path: Path, data: st.DataObject) -> None:
    draw = data.draw
    with closing(empty()) as store:
        for name, values in {
            "meta": st.tuples(SAFE, TEXT),
            "anki_notetype": st.tuples(WHOLE, OBJECT),
            "media": st.tuples(TEXT, TEXT, WHOLE),
            "run": st.tuples(
                *(
                    WHOLE,
                    SAFE,
                    st.none() | SAFE,
                    OBJECT,
                    SAFE,
                    OBJECT,
                    REAL,
                    REAL,
                    st.just("ok"),
                    OBJECT,
                    JSON,
                    JSON,
                    JSON,
                ),
                st.none() | SAFE,
            ),
            "prediction": st.tuples(WHOLE, st.none(), SAFE, SAFE, REAL, MAYBE, st.none() | SAFE, REAL),
        }.items():
            for row in draw(st.lists(values, max_size=3)):
                store.execute(f"INSERT OR IGNORE INTO {name} VALUES ({', '.join('?' * len(row))})", row)
        store.execute(
            "INSERT INTO deck VALUES ('d', ?, ?, NULL, '', ?, 1, ?, NULL)", draw(st.tuples(SAFE, SAFE, WHOLE, WHOLE))
        )
        content = encode_card(make_card("a", answer=draw(SAFE)))
        values = draw(st.tuples(WHOLE, SAFE, WHOLE, WHOLE, WHOLE))
        store.execute(
            "INSERT INTO card VALUES (?, 'a', 'd', 't', 'open', ?, '', ?, '', ?, ?, NULL, ?)", (*values, content)
        )
        schedule = draw(st.tuples(WHOLE, WHOLE, WHOLE, WHOLE, WHOLE, MAYBE, MAYBE, MAYBE, WHOLE, WHOLE))
        store.execute("INSERT INTO schedule VALUES (?, 'a', ?, 2, ?, ?, ?, ?, ?, ?, ?, ?, 0, NULL, 7, 1, 0)", schedule)
        for review in draw(st.lists(st.tuples(WHOLE, WHOLE, WHOLE, WHOLE, REAL, REAL, MAYBE, WHOLE), max_size=3)):
            at, *rest = review
            store.execute(
                "INSERT OR IGNORE INTO review VALUES (?, ?, ?, 3, 1, ?, ?, ?, ?, ?, ?, NULL, NULL)",
                (at, schedule[0], *rest),
            )
        out, home = io.BytesIO(), home_in(tmp_path)
        export(store, out, home)
        with restoring.arrived(io.BytesIO(out.getvalue()), "library.json", home) as new:
            assert rows(new.database) == rows_of(store)
            assert not any("spelled out" in finding for finding in new.findings)


def test_infinity_comes_back(tmp_path: Path) -> None:
    row = (1, None, "a", "m", float("inf"), float("-inf"), None, 0.1)
    assert encoded(row) == '[1,null,"a","m",1e999,-1e999,null,0.1]'
    with closing(empty()) as store:
        store.execute("INSERT INTO prediction VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        out, home = io.BytesIO(), home_in(tmp_path)
        export(store, out, home)
    with restoring.arrived(io.BytesIO(out.getvalue()), "library.json", home) as new:
        assert rows(new.database)["prediction"] == [row]


@pytest.mark.parametrize("version", range(1, LATEST))
def test_a_file_of_an_older_schema_is_migrated(tmp_path: Path, version: int) -> None:
    home, out = home_in(tmp_path), io.BytesIO()
    with closing(old(version)) as store:
        export(store, out, home)
    bring(out.getvalue(), home)
    with Store.open(home.database) as store:
        assert store.connection.execute("PRAGMA user_version").fetchone()[0] == LATEST
        assert [hit.card_id for hit in store.search("memory")] == ["a"]
        assert store.progress_of("a")[0].schedule.reps == 3
        assert len(store.history(1)) == (1 if version >= 2 else 0)
    assert backup.newest(home.database) is None


def test_what_was_there_is_kept_beside(library: Home, tmp_path: Path) -> None:
    data, before = exported(library), rows(library.database)
    (library.decks / "mine.en.md").write_text("# Other\n", encoding="utf-8")
    (library.decks / "new.en.md").write_text("# New\n", encoding="utf-8")
    with Store.open(library.database) as store:
        store.set_meta("later", "1")
    new = bring(data, library)

    assert rows(library.database) == before
    assert (library.decks / "mine.en.md").read_bytes().startswith(b"# Mine")
    (kept,) = library.decks.glob("mine.en.md.before-*")
    assert kept.read_text() == "# Other\n"
    assert new.findings == ["your deck file new.en.md is not in the file and stays"]
    copy = backup.newest(library.database)
    assert copy is not None
    assert copy.stem.endswith("before-import")
    assert ("later", "1") in rows(copy)["meta"]
    assert not list(library.database.parent.glob(".import-*"))


def test_a_damaged_database_is_set_aside(library: Home) -> None:
    data, before = exported(library), rows(library.database)
    library.database.write_bytes(b"nothing but noise" * 1000)
    bring(data, library)
    assert rows(library.database) == before
    assert [file.read_bytes()[:7] for file in library.database.parent.glob("*.db.damaged-*")] == [b"nothing"]


def test_a_library_in_use_is_not_replaced(library: Home) -> None:
    data = exported(library)
    with Store.open(library.database) as store:
        store.set_meta("later", "1")
        with pytest.raises(StoreError, match="is in use by another llmquiz"):
            bring(data, library)
        assert store.meta("later") == "1"


def test_without_media_the_names_stay(library: Home, tmp_path: Path) -> None:
    there = home_in(tmp_path / "other")
    new = bring(exported(library, with_media=False), there)
    assert rows(there.database) == rows(library.database)
    assert new.findings == ["1 media files are not in the file, dog.png among them"]


def test_files_that_cannot_go_along_are_told(library: Home) -> None:
    (library.media / "dog.png").unlink()
    (library.decks / "latin.en.md").write_bytes(b"# \xe9t\xe9\n")
    os.mkfifo(library.decks / "pipe.en.md")
    with Store.open(library.database, read_only=True) as store:
        report = export(store.connection, io.BytesIO(), library)
    assert report.findings == [
        "deck file 'latin.en.md' is not UTF-8 text; it is left out",
        "deck file 'pipe.en.md' is not a regular file; it is left out",
        "media file 'dog.png' is not in the media folder; it is left out",
    ]
    assert (report.decks, report.media) == (1, 0)


def change(pattern: str, by: str, text: str) -> str:
    changed = re.sub(pattern, lambda match: by, text, count=1)
    assert changed != text
    return changed


# ruff: noqa: E501
HOSTILE = {
    "no json": (r"(?s).*", "PK\x03\x04", "is not a library; `llmquiz export json` writes one"),
    "empty": (r"(?s).*", "", "is not a library"),
    "another json": (r'"format":"llmquiz library"', '"format":"other"', "is not a library"),
    "no format": (r'"format"', '"from"', "expected 'format', found 'from'"),
    "a newer form": (r'"version":1', '"version":2', "version 2 of the format, this llmquiz reads 1; update llmquiz"),
    "a newer schema": (r'"schema":\d+', '"schema":99', "was written by a newer llmquiz (schema 99"),
    "schema of a wrong type": (r'"schema":\d+', '"schema":true', "'schema' is not a number from 1 on"),
    "a huge number": (r'"schema":\d+', '"schema":' + "9" * 5000, "exceeds the limit"),
    "no number": (r'"schema":\d+', '"schema":NaN', "nan is not json"),
    "an unknown table": (r'"deck":\{', '"sqlite_schema":{', "table 'sqlite_schema': is unknown"),
    "a table twice": (r'\},\n"deck":', '},\n"meta":', "table 'meta': stands twice"),
    "a missing table": (r'(?s)"meta":.*?"deck":', '"deck":', "table 'meta' is missing"),
    "an unknown column": (r'"columns":\["key"', '"columns":["key","x"', "table 'meta': has not the columns key, value"),
    "a column twice": (r'"key","value"', '"key","key"', "table 'meta': has not the columns"),
    "a column that is no name": (r'\["key","value"\]', '[["key"],{}]', "table 'meta': has not the columns"),
    "a short row": (r'\["now","1"\]', '["now"]', "table 'meta', row 1: expected a list of 2 values"),
    "a row that is none": (r'\["now","1"\]', '{"now":"1"}', "table 'meta', row 1: expected a list"),
    "a number for a text": (r'\["now","1"\]', '["now",1]', "table 'meta', row 1: 'value' is not a text"),
    "a text for a number": (r"739000,3,", '"739000",3,', "table 'review', row 1: 'day' is not a whole number"),
    "a truth for a number": (r"739000,3,", "true,3,", "table 'review', row 1: 'day' is not a whole number"),
    "a list for a number": (r"739000,3,", "[],3,", "table 'review', row 1: 'day' is not a whole number"),
    "a part for a whole": (r"739000,3,", "739000.5,3,", "table 'review', row 1: 'day' is not a whole number"),
    "more than 64 bits": (r"739000,3,", "9223372036854775808,3,", "table 'review', row 1: python int too large"),
    "too large for a float": (r"12\.3,", "1" * 400 + ",", "table 'review', row 1: a number is too large"),
    "an endless stability": (r"12\.3,", "1e999,", "table 'review', row 1: 'stability' is infinite"),
    "a rating of 9": (r"739000,3,", "739000,9,", "table 'review', row 1: check constraint failed"),
    "a day that is missing": (r"739000,3,", "null,3,", "table 'review', row 1: not null constraint failed"),
    "a review twice": (r"\[1790000000126,1,", "[1790000000125,1,", "table 'review', row 2: unique constraint failed"),
    "a review of nothing": (r"\[1790000000126,1,", "[1790000000126,77,", "row 1790000000126 of table 'review' belongs to one of 'schedule'"),
    "a key twice": (r'\{"name":"mine', '{"name":"x","name":"mine', "decks, entry 1: a name stands twice in one object"),
    "half a character": (r'\["now","1"\]', r'["now","\\ud800"]', "table 'meta', row 1: holds half a character"),
    "a depth bomb": (r'\["now","1"\]', "[" * 100_000, "table 'meta', row 1: nested too deeply"),
    "a depth bomb in a card": (r'"\[\[1,2,3\]\]"', '"' + "[" * 100_000 + '"', "table 'action', row 1: 'before' is nested too deeply"),
    "a row of a million lists": (r'\["now","1"\]', "[" + "[]," * 500_000, "table 'meta', row 1: a value of too many parts"),
    "an action of nothing": (r'"\[\[1,2,3\]\]"', '"5"', "table 'action', row 1: 'before' is JSON of another kind"),
    "no card": (r'"\{\\"id\\":\\"a\\"[^\n]*\}"\]', '"{}"]', "table 'card', row 1: 'content' is not a card"),
    "another card": (r'"\{\\"id\\":\\"a\\"', r'"{\"id\":\"z\"', "table 'card', row 1: 'content' is not the card of this id"),
    "a card of numbers": (r'\\"answer\\":\\"because\\"', r'\"answer\":5', "row 1: 'content' is not the card of this id"),
    "faces that are no numbers": (r'\\"faces\\":\[\[0', r'\"faces\":[true,[0', "'content' is not the card of this id"),
    "escapes in a name": (r'\["deck","Deck"', r'["deck\\u001b[2J","Deck"', "control characters in 'id'"),
    "a deck file elsewhere": (r'"mine\.en\.md"', '"../../mine.en.md"', "decks, entry 1: name '../../mine.en.md' is not the bare name"),
    "a deck file at the root": (r'"mine\.en\.md"', '"/etc/mine.en.md"', "is not the bare name of a file"),
    "a deck file of windows": (r'"mine\.en\.md"', r'"C:\\\\mine.en.md"', "is not the bare name of a file"),
    "a deck file that is hidden": (r'"mine\.en\.md"', '".mine.en.md"', "is not the bare name of a file"),
    "a deck file that is none": (r'"mine\.en\.md"', '"mine.db"', "is not called as a deck file"),
    "a deck file without text": (r'"text":"# Mine[^\n]*\}', '"text":5}', "decks, entry 1: expected a name and a text"),
    "media elsewhere": (r'\["dog\.png"', '["../dog.png"', "is not in the table 'media'"),
    "media of nobody": (r'\{"name":"dog\.png"', '{"name":"cat.png"', "is not in the table 'media'"),
    "other data": (r'"data":\[\n"AAEC', '"data":[\n"AAED', "its data are not those that its fingerprint is of"),
    "no data": (r'"data":\[\n"AAEC', '"data":[\n"A!EC', "its data are not base64"),
    "a changed row": (r'\["now","1"\]', '["now","2"]', "its fingerprint is of another content"),
    "more at the end": (r"\}\}\n$", "}}\n{}", "goes on after its end"),
    "a missing end": (r'"end".*\n$', "", "ends too early"),
}  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, str]:
    """A library that nothing may change, and its file."""
    home = home_in(tmp_path_factory.mktemp("shared"))
    fill(home)
    return home, exported(home).decode()


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_wrong_is_refused_in_one_line(shared: tuple[Home, str], name: str) -> None:
    home, whole = shared
    pattern, by, words = HOSTILE[name]
    data = change(pattern, by.replace("\\\\u", "\\u"), whole)
    before = snapshot(home)
    with pytest.raises(ImportFileError) as caught:
        bring(data.encode(), home)
    message = str(caught.value)
    assert message.startswith("library.json: ")
    assert words in message
    assert "\n" not in message
    assert len(message) < 300
    assert snapshot(home) == before


def snapshot(home: Home) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in home.database.parent.rglob("*") if path.is_file()}


def test_a_refused_file_makes_no_library(tmp_path: Path) -> None:
    home = home_in(tmp_path)
    with pytest.raises(ImportFileError):
        bring(b"{}", home)
    assert list(home.database.parent.iterdir()) == []


def test_a_path_in_the_table_of_media_makes_no_file(library: Home, tmp_path: Path) -> None:
    text = (
        exported(library)
        .decode()
        .replace('["dog.png"', '["../dog.png"')
        .replace('"name":"dog.png"', '"name":"../dog.png"')
    )
    with pytest.raises(ImportFileError, match="is not the bare name of a file"):
        bring(text.encode(), home_in(tmp_path / "other"))
    assert not list(tmp_path.rglob("dog.png"))[1:]  # the library's own


def test_control_characters_of_texts_are_spelled_out(library: Home, tmp_path: Path) -> None:
    with Store.open(library.database) as store, store.transaction() as connection:
        connection.execute("UPDATE deck SET title_en = 'a\x1b[2Jb' WHERE id = 'deck'")
        content = encode_card(make_card("a", answer="left\u202eright \x1b]0;x\x07"))
        connection.execute("UPDATE card SET content = ? WHERE id = 'a'", (content,))
    there = home_in(tmp_path / "other")
    new = bring(exported(library), there)

    assert new.findings == [
        "table 'deck', row 2: control characters in 'title_en' are spelled out",
        "table 'card', row 1: control characters in 'content' are spelled out",
    ]
    with Store.open(there.database) as store:
        assert store.card("a").texts["en"].answer == "left\\u202eright \\u001b]0;x\\u0007"  # type: ignore[index]


def test_bombs_are_stopped_by_the_limits(tmp_path: Path) -> None:
    home = home_in(tmp_path)
    bomb = gzip.compress(b'{"format":"llmquiz library","version":1,"schema":6,' + b" " * (17 << 20), 1)
    with pytest.raises(ImportFileError, match=r"unpacks to more than 100 times its size; if you trust it, raise ratio"):
        bring(bomb, home, limits=Limits(ratio=100))
    with pytest.raises(ImportFileError, match="holds more than 3 MiB"):
        bring(b" " * (4 << 20), home, limits=Limits(total_mb=3))


def test_packed_files_are_checked(library: Home, tmp_path: Path) -> None:
    data = gzip.compress(exported(library))
    half = len(data) // 2
    for broken in (data[:-20], data[:half], data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :]):
        with pytest.raises(ImportFileError, match="nothing was changed"):
            bring(broken, home_in(tmp_path / "other"))


def damaged(data: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.3:
        return data[: chance.randrange(len(data))]
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]


@pytest.mark.parametrize("count", [25, pytest.param(400, marks=pytest.mark.slow)])
def test_a_damaged_file_is_refused(shared: tuple[Home, str], tmp_path: Path, count: int) -> None:
    library, _ = shared
    data, chance, there = exported(library, with_media=False), random.Random(count), home_in(tmp_path)
    for _ in range(count):
        broken = damaged(data, chance)
        with suppress(ImportFileError), restoring.arrived(io.BytesIO(broken), "library.json", there) as new:
            assert rows(new.database) == rows(library.database), broken  # a space became another space


@pytest.mark.slow
def test_killed_at_any_moment_it_is_the_old_or_the_new_one(library: Home, tmp_path: Path) -> None:
    one = tmp_path / "one.json"
    one.write_bytes(exported(library))
    with Store.open(library.database) as store:
        store.sync([], now=0)
        store.set_meta("other", "x" * 200_000)
    other = tmp_path / "other.json"
    other.write_bytes(exported(library))
    wanted = [rows(library.database)["meta"], json.loads(one.read_text())["tables"]["meta"]["rows"]]
    for number in range(8):
        command = [sys.executable, "-c", KILLED, str(one), str(other), str(library.database.parent)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(0.05 + 0.017 * number)
            child.send_signal(signal.SIGKILL)
        assert health.inspect(library.database).problems == ()
        assert [list(row) for row in rows(library.database)["meta"]] in [[list(row) for row in it] for it in wanted]


def test_a_long_value_in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulljson, "CHUNK", 3)
    text = '{"a": ["x\\u4e2d", -12.5e1], "中": "🐕\\n"} 123'
    pull = pulljson.Pull(pulljson.Bytes(io.BytesIO(text.encode()), "f", Limits()), "f")
    assert pull.value() == {"a": ["x中", -125.0], "中": "🐕\n"}
    assert pull.value() == 123
    assert pull.next() == ""


def test_a_name_that_is_taken_is_never_written_over(tmp_path: Path) -> None:
    place = tmp_path / "a.en.md"
    for text in "abc":
        staged = tmp_path / f"staged-{text}"
        staged.write_text(text)
        found = libraryfiles.placing(staged, place)
        assert found is not None
        libraryfiles.put(found)
    assert {file.read_text() for file in tmp_path.iterdir()} == {"a", "b", "c"}


def test_the_commands(library: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "all.json.gz"
    command("export", "json", "-o", str(out), "--json")
    report = json.loads(capsys.readouterr().out)
    assert report == {
        "path": str(out), "decks": 2, "cards": 5, "reviews": 2, "runs": 2, "media": 1, "deck_files": 1,
        "bytes": out.stat().st_size, "findings": [],
    }  # fmt: skip
    first = out.read_bytes()
    command("export", "json", "-o", str(out))
    assert out.read_bytes() == first
    before = rows(library.database)
    with Store.open() as store:
        store.connection.execute("DELETE FROM undone")
        store.connection.execute("DELETE FROM prediction")
    capsys.readouterr()

    command("import", "json", str(out), "--dry-run")
    shown = capsys.readouterr().out
    assert re.search(r"predictions +0 +1\n", shown)
    assert rows(library.database)["prediction"] == []
    with pytest.raises(UsageError, match="needs a yes; add --yes"):
        command("import", "json", str(out))
    command("import", "json", str(out), "-y")
    assert re.search(
        r"imported; 'llmquiz restore llmquiz-\d+-\d+-before-import.db' takes it back", capsys.readouterr().out
    )
    assert rows(library.database) == before
    command("import", "json", str(out), "-y", "--json")
    again = json.loads(capsys.readouterr().out)
    assert again["before"] == again["after"]
    assert (again["imported"], again["files"], len(again["backup"])) == (True, [], 1)


def test_errors_of_the_commands(library: Home, tmp_path: Path) -> None:
    with pytest.raises(ImportFileError, match="cannot be read: no such file"):
        command("import", "json", str(tmp_path / "no.json"), "--dry-run")
    with pytest.raises(ImportFileError, match="cannot be read: is a directory"):
        command("import", "json", str(tmp_path), "-y")
    with pytest.raises(UsageError, match="both want stdout"):
        command("export", "json", "-o", "-", "--json")
    with pytest.raises(ExportError, match="is a folder; give the name of the file to write"):
        command("export", "json", "-o", str(tmp_path))
    with pytest.raises(ExportError, match="there is no folder"):
        command("export", "json", "-o", str(tmp_path / "no" / "a.json"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_leaves_nothing(library: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "all.json"
    out.write_text("old")
    monkeypatch.setattr("os.fdopen", lambda handle, mode: (os.close(handle), open("/dev/full", mode))[1])  # noqa: PTH123, SIM115
    with pytest.raises(ExportError, match="the disk is full; free some space"):
        command("export", "json", "-o", str(out))
    assert out.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["all.json"]
