"""`llmquiz import anki`: shown, asked, copied, merged; the second time nothing is left to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmquiz import locations
from llmquiz.cli.main import main
from llmquiz.store import Store, backup

pytest.importorskip("anki.collection")

from tests.support import collection


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("import")
    col = collection.build(folder / "source", 24, 200, answered=0)
    made = collection.package(col, folder / "mine.apkg")
    col.close()
    return made


@pytest.fixture(autouse=True)
def without_decks_of_ours(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmquiz.locations.shipped", lambda kind: home / "nothing" / kind)
    monkeypatch.setenv("COLUMNS", "80")


def notes() -> int:
    with Store.open(read_only=True) as store:
        return int(store.connection.execute("SELECT count(*) FROM anki_note").fetchone()[0])


def test_an_import_is_shown_then_done_then_nothing(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "anki", str(package), "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert "notes: 24 new, 0 changed, 0 as they were" in shown.out
    assert "filtered decks (Cram before Friday)" in shown.out
    assert "nothing was changed" in shown.err
    assert max(map(len, shown.out.splitlines())) <= 80
    assert notes() == 0
    assert not locations.media().exists()

    assert main(["import", "anki", str(package), "--yes"]) == 0
    done = capsys.readouterr()
    assert notes() == 24
    assert (locations.media() / "said.mp3").read_bytes().startswith(b"ID3")
    assert "\x1b" not in done.out + done.err
    assert shown.out in done.out  # the plan was no guess

    assert main(["import", "anki", str(package)]) == 0  # asks nothing: there is nothing to change
    assert capsys.readouterr().out == "nothing to import: all of it is here already\n"

    copy = done.out.splitlines()[-1].split("restore ")[1]
    assert copy.endswith("-before-import.db")
    assert main(["restore", copy, "--yes"]) == 0
    assert notes() == 0


def test_the_report_as_json(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "anki", str(package), "--json", "--dry-run"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert main(["import", "anki", str(package), "--json", "--yes"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {
        "imported", "dry_run", "nothing", "before", "after", "notes_added", "notes_changed", "notes_unchanged",
        "schedules_changed", "cards_renewed", "reviews_added", "findings", "backup",
    }  # fmt: skip
    assert (report["imported"], report["notes_added"], report["after"]["notes"]) == (True, 24, 24)
    assert Path(report["backup"]).is_file()
    same = set(report) - {"imported", "dry_run", "backup"}
    assert {name: plan[name] for name in same} == {name: report[name] for name in same}


def test_an_import_needs_a_yes(
    package: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["import", "anki", str(package)]) == 2
    assert "needs a yes; add --yes, or --dry-run" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda question: False)
    assert main(["import", "anki", str(package)]) == 1
    assert "nothing was changed" in capsys.readouterr().err
    assert notes() == 0
    assert not any("before-import" in one.label for one in backup.listing(locations.database()))


def test_what_is_no_package_is_refused_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise = tmp_path / "noise.apkg"
    noise.write_bytes(b"nothing but noise" * 99)
    for file, problem in ((tmp_path / "none.apkg", "no such file"), (tmp_path, "no file"), (noise, "noise.apkg: ")):
        assert main(["import", "anki", str(file), "--yes"]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"llmquiz: error: {file}: ")
        assert error.count("\n") == 1
        assert problem in error
    assert not any("before-import" in one.label for one in backup.listing(locations.database()))


def test_what_is_here_already_leaves_no_copy(package: Path) -> None:
    for _ in range(2):
        assert main(["import", "anki", str(package), "--yes"]) == 0
    assert sum("before-import" in one.label for one in backup.listing(locations.database())) == 1
