"""Media: each file whole, under its own name, and never over another."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

from llmquiz.core.card import Lang, NoteFace
from llmquiz.core.errors import ImportFileError, StoreError
from llmquiz.store import Store
from llmquiz.store.incoming import Incoming, IncomingMedia, IncomingNote, IncomingPart
from llmquiz.store.intakenames import Renamer
from tests.store.incoming import dump, make_incoming, make_note, note_card, take


def files(store: Store) -> dict[str, bytes]:
    folder = store.path.parent / "media"
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


def with_picture(content: bytes, name: str = "a") -> Incoming:
    card = note_card(name, ("![x](a.png) and [sound](a.png.mp3)", "aa.png"))
    return make_incoming(
        IncomingNote(card, 0, [IncomingPart(0)], make_note(name).anki), media=[("a.png", content), ("b.mp3", b"sound")]
    )


def test_files_lie_under_their_names(store: Store) -> None:
    assert take(store, with_picture(b"one")).after.media == 2
    assert files(store) == {"a.png": b"one", "b.mp3": b"sound"}
    rows = store.connection.execute("SELECT * FROM media ORDER BY name").fetchall()
    assert rows[0] == ("a.png", hashlib.sha1(b"one").hexdigest(), 3)
    before = dump(store)
    assert take(store, with_picture(b"one")).nothing
    assert dump(store) == before


def test_another_file_of_the_same_name_gets_its_own(store: Store) -> None:
    take(store, with_picture(b"one"))
    name = f"a-{hashlib.sha1(b'two').hexdigest()[:8]}.png"
    for added in (1, 0):
        report = take(store, with_picture(b"two", "b"))
        assert list(report.findings) == [f"media 'a.png': another file has this name; kept as '{name}'"]
        assert report.notes_added == added
    assert files(store) == {"a.png": b"one", "b.mp3": b"sound", name: b"two"}
    face = store.card("anki-b").text(Lang.EN).face(0)
    assert (face.front, face.back) == (f"![x]({name}) and [sound](a.png.mp3)", "aa.png")
    fields = store.connection.execute("SELECT fields FROM anki_note WHERE card = 'anki-b'").fetchone()[0]
    assert fields.startswith(f'<img src="{name}">')
    assert store.card("anki-a").text(Lang.EN).face(0).front.startswith("![x](a.png)")


@pytest.mark.parametrize(
    ("markdown", "html"),
    [
        ("![x](my%20%5Fpic%26.png)", '<img src="my _pic&.png">'),
        ("![x](my%20%5Fpic%26.png)", "<img src='my _pic&amp;.png'>"),
        ("![x](my%20%5Fpic%26.png)", '<img src="my%20_pic%26.png">'),
    ],
)
def test_a_name_is_found_however_it_is_written(markdown: str, html: str) -> None:
    old, new = "my _pic&.png", "my _pic&-12.png"
    note = make_note("a")
    assert note.anki is not None
    note = replace(note, card=note_card("a", (markdown, old)), anki=replace(note.anki, fields=(html, old)))
    renamer = Renamer({old: new})
    assert renamer.card(note.card).text(Lang.EN).face(0) == NoteFace(0, "![x](my%20%5Fpic%26-12.png)", old)
    anki = (1, "guid", 1, 1, "", "\x1f".join(note.anki.fields))
    assert renamer.anki(anki) == (*anki[:5], f"{html.replace('.png', '-12.png')}\x1f{old}")


def test_a_template_shows_the_file_under_its_new_name(store: Store) -> None:
    def incoming(content: bytes) -> Incoming:
        sides = {"name": "Card 1", "qfmt": '<img src="a.png">{{Front}}', "afmt": "a.png [sound:a.png]"}
        notetype = {"id": 1, "css": 'p {background: url("a.png")}', "tmpls": [sides], "note": '"a.png"'}
        return replace(with_picture(content), anki_notetypes={1: json.dumps(notetype), 2: "{}"})

    take(store, incoming(b"one"))
    take(store, incoming(b"two"))
    new = f"a-{hashlib.sha1(b'two').hexdigest()[:8]}.png"
    there = json.loads(store.connection.execute("SELECT content FROM anki_notetype WHERE id = 1").fetchone()[0])
    assert there["tmpls"][0]["qfmt"] == f'<img src="{new}">{{{{Front}}}}'
    assert there["tmpls"][0]["afmt"] == f"a.png [sound:{new}]"
    assert (there["css"], there["note"]) == (f'p {{background: url("{new}")}}', '"a.png"')


def test_a_dry_run_knows_of_the_clash(store: Store) -> None:
    take(store, with_picture(b"one"))
    report = take(store, with_picture(b"two", "b"), dry_run=True)
    assert "another file has this name" in report.findings[0]
    assert report.after.media == 3
    assert set(files(store)) == {"a.png", "b.mp3"}


def test_a_file_that_a_crash_left_is_taken_over_and_a_lost_one_comes_back(store: Store) -> None:
    folder = store.path.parent / "media"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"one")
    (folder / "b.mp3").write_bytes(b"another")
    report = take(store, with_picture(b"one"))
    assert len(report.findings) == 1
    assert len(files(store)) == 3
    (folder / "a.png").unlink()
    take(store, with_picture(b"one"))
    assert files(store)["a.png"] == b"one"


@pytest.mark.parametrize("name", ["../a.png", "/a", "a\\b", ".hidden", "", "x" * 300, "a\x1b[2J", "..", "a\u202eb"])
def test_a_name_that_is_no_plain_name_is_left_out(store: Store, name: str) -> None:
    report = take(store, make_incoming(make_note("a"), media=[(name, b"x"), ("good.png", b"y"), ("good.png", b"z")]))
    assert files(store) == {"good.png": b"y"}
    assert len(report.findings) == 2
    assert report.notes_added == 1
    assert all(line.isprintable() for line in report.findings)


def test_names_that_differ_in_case_alone_are_kept_apart(store: Store) -> None:
    for _ in range(2):
        take(store, make_incoming(media=[("a.png", b"x"), ("A.PNG", b"y")]))
        assert sorted(files(store).values()) == [b"x", b"y"]
        assert len({name.lower() for name in files(store)}) == 2


def test_a_folder_that_cannot_be_written(store: Store) -> None:
    (store.path.parent / "media").write_text("a file")
    before = dump(store)
    with pytest.raises(StoreError, match=r"media: media cannot be kept here: .+; nothing was imported"):
        take(store, with_picture(b"one"))
    assert dump(store) == before


def test_a_file_that_cannot_be_read_on_the_way(store: Store) -> None:
    def broken() -> BytesIO:
        raise ImportFileError("x.apkg: media file 'b.png' is damaged")

    incoming = make_incoming(make_note("a"), media=[("a.png", b"x")])
    media = [*incoming.media, IncomingMedia("b.png", broken)]
    with pytest.raises(ImportFileError):
        take(store, Incoming("anki", incoming.decks, incoming.notes, 1, media=media))
    assert files(store) == {}
    assert store.cards() == []


def test_what_a_killed_import_left_is_cleared_away(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = store.path.parent / "media" / ".incoming-1"
    stale.mkdir(parents=True)
    (stale / "0").write_bytes(b"half")
    take(store, with_picture(b"one"))
    assert stale.exists()  # it may belong to an import that runs now
    monkeypatch.setattr("llmquiz.store.intakemedia.time.time", lambda: Path(stale).stat().st_mtime + 7200)
    take(store, with_picture(b"two", "b"))
    assert not stale.exists()
