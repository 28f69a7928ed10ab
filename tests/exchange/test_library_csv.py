"""The library as tables: what a spreadsheet reads is what the store holds."""

from __future__ import annotations

import csv
import json
import re
from datetime import timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmquiz.core.day import Calendar
from llmquiz.core.errors import ExportError, UsageError
from llmquiz.exchange import csvcolumns, librarycsv
from llmquiz.exchange.libraryfiles import Home
from llmquiz.store import Store
from tests.exchange.libraries import command, fill, home_in, unrender

BERLIN = Calendar(zone=timezone(timedelta(hours=1)))
DOCS = Path(__file__).parents[2] / "docs" / "export.md"
AT = 1_790_000_000  # 2026-09-21 14:13:20 UTC


@pytest.fixture
def library(home: Path) -> Home:
    here = home_in(home)
    fill(here)
    return here


def written(home: Home, out: Path, *decks: str) -> dict[str, list[dict[str, str]]]:
    with Store.open(home.database) as store:
        report = librarycsv.export(store, decks, out, calendar=BERLIN)
    tables = {}
    for path in sorted(out.iterdir()):
        with path.open(encoding="utf-8-sig", newline="") as file:
            tables[path.stem] = list(csv.DictReader(file, strict=True))
    assert {name: len(rows) for name, rows in tables.items()} == report.rows
    assert report.bytes == sum(path.stat().st_size for path in out.iterdir())
    return tables


def test_every_row_is_there_in_words_and_units(library: Home, tmp_path: Path) -> None:
    tables = written(library, tmp_path / "out")

    assert [row["card"] for row in tables["cards"]] == ["a", "b", "c", "gone", "anki-1"]
    card = tables["cards"][0]
    assert (card["question (en)"], card["question (zh)"], card["answer (en)"]) == ("Why a?", "为什么？", "because")
    assert tables["cards"][2]["choices (en)"].startswith("[x] choice 0 (a slip)\n[ ] choice 1")
    assert tables["cards"][3]["archived at"] == "2026-09-21T13:00:01+01:00"
    assert tables["cards"][4]["answer (en)"] == "the dog\n\nel perro"

    schedule = tables["schedules"][0]
    assert (schedule["state"], schedule["due day"], schedule["due at"]) == ("review", "2024-04-24", "")
    assert (schedule["stability (days)"], schedule["leech"]) == ("12.345678901234567", "yes")
    first, second = tables["reviews"]
    assert first["answered at"] == "2026-09-21T15:13:20+01:00"
    assert (first["rating"], first["state before"], first["interval (days)"]) == ("good", "review", "9")
    assert (first["study day"], first["duration (ms)"], first["undone at"]) == ("2024-04-24", "4200", "")
    assert second["interval (days)"] == str(round(600 / 86_400, 6))
    assert (second["stability (days)"], second["recall before (0-1)"]) == ("", "")
    assert second["undone at"] == "2026-09-21T15:13:29+01:00"
    assert json.loads(tables["runs"][0]["metrics (JSON)"]) == {"speedup": 2.5}
    assert (tables["predictions"][0]["guess"], tables["predictions"][0]["measured"]) == ("3.0", "2.5")


def test_a_note_without_faces_has_them_in_its_row(library: Home, tmp_path: Path) -> None:
    unrender(library)
    (row,) = written(library, tmp_path / "out", "anki-spanish")["cards"]
    assert row["question (en)"] == "![dog.png](dog.png) front\n\n**back**"
    assert row["answer (en)"] == "**back**\n\nfront (Languages::Spanish)"


def test_named_decks_alone(library: Home, tmp_path: Path) -> None:
    tables = written(library, tmp_path / "out", "anki-spanish")
    assert {name: len(rows) for name, rows in tables.items()} == {
        "cards": 1, "schedules": 2, "reviews": 0, "runs": 0, "predictions": 0,
    }  # fmt: skip


@pytest.mark.slow
@given(st.text(st.characters(codec="utf-8"), max_size=8))
def test_no_text_is_a_formula_and_every_one_comes_back(text: str) -> None:
    cell = librarycsv.safe(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert (cell[1:] if cell.startswith("'") else cell) == text


def test_formulas_are_texts(library: Home, tmp_path: Path) -> None:
    with Store.open(library.database) as store, store.transaction() as connection:
        connection.execute("UPDATE run SET error = '=cmd|''/c calc''!A0' WHERE id = 2")
        connection.execute("UPDATE prediction SET guess = -3.5")
    tables = written(library, tmp_path / "out")
    assert tables["runs"][1]["error"] == "'=cmd|'/c calc'!A0"
    assert tables["predictions"][0]["guess"] == "-3.5"  # a number stays one


@pytest.mark.parametrize("at", [1e18, -1e18, float("inf")])
def test_an_instant_that_no_calendar_has_is_left_empty(at: float) -> None:
    assert librarycsv.instant(at, Calendar()) == librarycsv.instant(at, BERLIN) == ""


def test_the_same_library_gives_the_same_bytes(library: Home, tmp_path: Path) -> None:
    for name in ("one", "two"):
        written(library, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_nothing_is_written_over(library: Home, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(ExportError, match="is not empty; choose a new folder with -o"):
        written(library, out)
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="is a file; choose a new folder"):
        written(library, tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert written(library, tmp_path / "empty")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "home", "out"]


def test_a_failure_leaves_nothing(library: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("llmquiz.target.size", full)
    for out in (tmp_path / "out", tmp_path / "empty"):
        if out.name == "empty":
            out.mkdir()
        with pytest.raises(ExportError, match="the disk is full; free some space"):
            written(library, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "home"]
    assert not list((tmp_path / "empty").iterdir())


def test_the_command(
    library: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmquiz.locations.shipped", lambda kind: tmp_path / "nothing" / kind)
    out = tmp_path / "out"
    command("export", "csv", "deck", "-o", str(out), "--json")
    report = json.loads(capsys.readouterr().out)
    assert report == {
        "path": str(out), "cards": 4, "schedules": 5, "reviews": 2, "runs": 1, "predictions": 1,
        "bytes": sum(path.stat().st_size for path in out.iterdir()), "findings": [],
    }  # fmt: skip
    with pytest.raises(UsageError, match=r"there is no deck 'dek'; did you mean 'deck'\?"):
        command("export", "csv", "dek", "-o", str(tmp_path / "two"))
    assert not (tmp_path / "two").exists()


def test_the_documentation_names_every_column() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for name, columns in csvcolumns.COLUMNS.items():
        section = re.search(rf"(?s)### {name}\.csv\n+(.*?)(?=\n#|\Z)", text)
        assert section is not None
        rows = [line for line in section[1].splitlines() if line.startswith("| ")][2:]
        assert rows == [f"| {column.name} | {column.meaning} |" for column in columns]
