"""`llmquiz backup`, `restore` and `doctor`, and the copy that every day of study makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmquiz import locations
from llmquiz.cli.main import main
from llmquiz.cli.opening import daily_backup
from llmquiz.core.options import Options
from llmquiz.core.rating import Rating
from llmquiz.store import Store, backup
from llmquiz.study.session import Session


@pytest.fixture(autouse=True)
def decks(home, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    folder = home / "data" / "decks"
    folder.mkdir(parents=True)
    text = "# Toy\n\n## What? {#toy-what topic=tokens}\n\nThat.\n\n### Key points\n- a\n- b\n- c\n"
    (folder / "toy.en.md").write_text(text, encoding="utf-8")
    monkeypatch.setattr("llmquiz.locations.shipped", lambda kind: home / "nothing" / kind)
    monkeypatch.setattr("llmquiz.lab.sdk.device.present_devices", lambda: ["cpu"])  # without importing torch


def answers() -> int:
    with Store.open(read_only=True) as store:
        return int(store.connection.execute("SELECT count(*) FROM review").fetchone()[0])


def answer_one() -> None:
    with Store.open() as store:
        session = Session(store, Options())
        assert session.next() is not None
        session.rate(Rating.AGAIN, duration_ms=9000)


def test_what_was_restored_can_be_taken_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats"]) == 0
    assert main(["backup"]) == 0
    copy = Path(capsys.readouterr().out.splitlines()[-1])
    answer_one()

    assert main(["restore", copy.name, "--dry-run"]) == 0
    assert "1 reviews made since then are only in the copy made before" in capsys.readouterr().out
    assert answers() == 1
    assert main(["restore", copy.name, "--yes"]) == 0
    assert answers() == 0
    assert main(["restore", "--yes"]) == 0  # the newest is the copy made before
    assert answers() == 1


def test_restoring_asks_first(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["restore"]) == 2
    assert "there are no backups" in capsys.readouterr().err
    main(["stats"])
    main(["backup"])
    assert main(["restore"]) == 2
    assert "needs a yes; add --yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda question: False)
    assert main(["restore"]) == 1
    assert "nothing was changed" in capsys.readouterr().err


def test_a_damaged_backup_is_not_restored(capsys: pytest.CaptureFixture[str]) -> None:
    main(["stats"])
    main(["backup"])
    copy = Path(capsys.readouterr().out.splitlines()[-1])
    copy.write_bytes(copy.read_bytes()[:5000])
    assert main(["restore", str(copy), "--yes"]) == 1
    assert "is damaged" in capsys.readouterr().err


def test_a_damaged_database_is_set_aside(capsys: pytest.CaptureFixture[str]) -> None:
    main(["stats"])
    answer_one()
    main(["backup"])
    path = locations.database()
    path.write_bytes(b"nothing but noise" * 1000)
    assert main(["doctor"]) == 1
    assert "llmquiz restore" in capsys.readouterr().out
    assert main(["restore", "--yes"]) == 0
    assert answers() == 1
    assert [file.read_bytes()[:7] for file in path.parent.glob("*.db.damaged-*")] == [b"nothing"]


def test_the_list_starts_with_the_newest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backup", "--list"]) == 0
    assert "no backups yet" in capsys.readouterr().err
    main(["stats"])
    for file in backup.folder(locations.database()).glob("*"):
        file.unlink()
    with Store.open() as store:
        made = [store.backup(now=1_772_625_600.0 + number) for number in range(3)]
    capsys.readouterr()
    assert main(["backup", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["backups"]
    assert [entry["path"] for entry in listed] == [str(file) for file in reversed(made)]


def test_a_day_of_study_makes_one_copy() -> None:
    main(["stats"])
    path = locations.database()
    for file in backup.folder(path).glob("*"):
        file.unlink()
    for _ in range(2):
        with daily_backup(path):
            pass
    assert len(backup.listing(path)) == 1


def test_a_copy_that_fails_is_told_and_hinders_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    main(["stats"])
    path = locations.database()
    for file in backup.folder(path).glob("*"):
        file.unlink()
    backup.folder(path).rmdir()
    backup.folder(path).touch()  # a file where the folder should be
    with daily_backup(path):
        assert answers() == 0
    assert "backup cannot be written" in capsys.readouterr().err


def test_doctor_looks_at_everything(capsys: pytest.CaptureFixture[str]) -> None:
    main(["stats"])
    capsys.readouterr()
    code = main(["doctor", "--json"])
    findings = json.loads(capsys.readouterr().out)["findings"]

    assert {finding["part"] for finding in findings} >= {"llmquiz", "data", "terminal", "database", "decks", "devices"}
    assert (code == 1) is any(finding["verdict"] == "problem" for finding in findings)
    assert all(finding["advice"] for finding in findings if finding["verdict"] == "problem")


def test_repair_leaves_a_whole_database_alone(capsys: pytest.CaptureFixture[str]) -> None:
    main(["stats"])
    before = locations.database().read_bytes()
    main(["doctor", "--repair"])
    assert "the database is whole; nothing to repair" in capsys.readouterr().err
    assert locations.database().read_bytes() == before
