"""`llmquiz doctor` says what is there, what is wrong with it, and what to do."""

from __future__ import annotations

import errno
import fcntl
import json
import time
from pathlib import Path

import pytest

from llmquiz import locations
from llmquiz.cli.main import main
from llmquiz.core.options import Options
from llmquiz.core.rating import Rating
from llmquiz.store import Store, filesystem
from llmquiz.study.session import Session
from tests.support.making import make_card, make_deck

Look = dict[str, list[tuple[str, str]]]


@pytest.fixture(autouse=True)
def _small(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No shipped decks, no torch; a database with an answer."""
    monkeypatch.setattr("llmquiz.locations.shipped", lambda kind: home / "nothing" / kind)
    monkeypatch.setattr("llmquiz.lab.sdk.device.present_devices", lambda: ["cpu"])
    answer()


def answer(ahead: float = 0.0) -> None:
    with Store.open() as store:
        store.sync([make_deck(make_card("a"), make_card("b"))], now=time.time())
        session = Session(store, Options(), clock=lambda: time.time() + ahead)
        assert session.next() is not None
        session.rate(Rating.EASY, duration_ms=1)


def look(capsys: pytest.CaptureFixture[str]) -> Look:
    """Verdict and text of each finding, by part."""
    capsys.readouterr()
    main(["doctor", "--json"])
    found: Look = {}
    for finding in json.loads(capsys.readouterr().out)["findings"]:
        assert finding["advice"] or finding["verdict"] != "problem"
        found.setdefault(finding["part"], []).append((finding["verdict"], finding["text"]))
    return found


def test_a_database_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    found = look(capsys)
    assert found["database"][0][0] == "ok"
    assert "whole: 1 reviews of 2 cards" in found["database"][0][1]
    assert found["database"][0][1].endswith("keeps a write-ahead log")
    assert "clock" not in found
    assert "media" not in found


def test_a_network_folder_and_its_journal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "kind", lambda folder: "nfs4")
    answer()
    found = look(capsys)
    assert found["database"][0][1].endswith("keeps a rollback journal")
    assert ("note", True) in [(verdict, "network file system (nfs4)" in text) for verdict, text in found["data"]]


def test_a_folder_without_locks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def none_available(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", none_available)
    assert "problem" in [verdict for verdict, text in look(capsys)["data"] if "cannot be locked" in text]


def test_answers_of_the_future(capsys: pytest.CaptureFixture[str]) -> None:
    answer(ahead=400 * 86_400.0)
    ((verdict, text),) = look(capsys)["clock"]
    assert verdict == "note"
    assert text.endswith("in the future")


def test_media_that_are_missing_changed_or_of_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    folder = locations.media()
    folder.mkdir(parents=True)
    for name in ("kept.png", "changed.png", "of-nobody.png"):
        (folder / name).write_bytes(b"four")
    with Store.open() as store, store.transaction() as connection:
        rows = [("kept.png", "", 4), ("changed.png", "", 9), ("gone.png", "", 4), ("\x1b[31m.png", "", 4)]
        connection.executemany("INSERT INTO media VALUES (?, ?, ?)", rows)
        connection.execute("UPDATE deck SET origin = 'anki'")
    found = look(capsys)
    assert found["imported"] == [("ok", "2 notes in 1 decks from anki")]
    told = "; ".join(f"{verdict} {text}" for verdict, text in found["media"])
    assert "problem missing: '\\x1b[31m.png', gone.png" in told
    assert "problem of another size than imported: changed.png" in told
    assert "note no note names of-nobody.png" in told
    (folder / "gone.png").write_bytes(b"four")
    assert "media" in look(capsys)


def test_settings_that_cannot_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    path = locations.settings_file()
    path.parent.mkdir(parents=True)
    path.write_text("[schedule]\ndesired_retention = 2\n")
    ((verdict, text),) = look(capsys)["settings"]
    assert (verdict, "desired_retention must be a number" in text) == ("problem", True)
    path.write_text("")
    assert look(capsys)["settings"] == [("ok", str(path))]


def test_a_database_of_another_program(capsys: pytest.CaptureFixture[str]) -> None:
    with Store.open() as store:
        store.connection.execute("PRAGMA application_id = 7")
    ((verdict, text),) = look(capsys)["database"]
    assert (verdict, "is not a database of llmquiz" in text) == ("problem", True)
