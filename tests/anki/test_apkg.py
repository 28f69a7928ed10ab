"""The file: whole or not there, the same bytes for the same content, and errors that say what to do."""

from __future__ import annotations

import errno
import json
import os
import zipfile
from pathlib import Path

import pytest

from llmquiz.anki.exporting import apkg
from llmquiz.core.errors import ExportError


def test_holds_a_collection_and_an_empty_media_map(tmp_path: Path) -> None:
    out = tmp_path / "out.apkg"
    assert apkg.write(out, b"rows") == out.stat().st_size
    with zipfile.ZipFile(out) as package:
        assert package.testzip() is None
        assert {name: package.read(name) for name in package.namelist()} == {
            "collection.anki21": b"rows",
            "media": b"{}",
        }


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.apkg", "two.apkg"):
        apkg.write(tmp_path / name, b"rows" * 1000)
    assert (tmp_path / "one.apkg").read_bytes() == (tmp_path / "two.apkg").read_bytes()


def test_leaves_nothing_else_behind_and_honours_the_umask(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        apkg.write(tmp_path / "out.apkg", b"rows")
    finally:
        os.umask(mask)
    assert [path.name for path in tmp_path.iterdir()] == ["out.apkg"]
    if os.name == "posix":
        assert (tmp_path / "out.apkg").stat().st_mode & 0o777 == 0o640


def test_a_folder_as_target(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"is a folder; give the name of the file to write, e\.g\. .*llmquiz\.apkg"):
        apkg.write(tmp_path, b"rows")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"there is no folder .*nowhere; make it or choose another with -o"):
        apkg.write(tmp_path / "nowhere" / "out.apkg", b"rows")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that even root cannot write")
def test_a_folder_that_cannot_be_written() -> None:
    with pytest.raises(ExportError, match=r"/proc/self(/out\.apkg)?: "):
        apkg.write(Path("/proc/self/out.apkg"), b"rows")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "the disk is full; free some space or choose another folder with -o"),
        (errno.EACCES, "cannot be written; choose another with -o"),
        (errno.EROFS, "cannot be written; choose another with -o"),
        (errno.EIO, "cannot be written: input/output error"),
    ],
)
def test_a_failed_write_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    out = tmp_path / "out.apkg"
    out.write_bytes(b"old")

    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ExportError, match=words):
        apkg.write(out, b"rows")
    assert [path.name for path in tmp_path.iterdir()] == ["out.apkg"]
    assert out.read_bytes() == b"old"


def test_an_interrupted_write_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        apkg.write(tmp_path / "out.apkg", b"rows")
    assert list(tmp_path.iterdir()) == []


def test_media_go_under_numbers_with_a_map(tmp_path: Path) -> None:
    out, sound = tmp_path / "out.apkg", tmp_path / "sound"
    sound.write_bytes(b"la" * 5000)
    apkg.write(out, b"rows", {"图 1.png": b"picture", "la.mp3": sound})
    with zipfile.ZipFile(out) as package:
        assert json.loads(package.read("media")) == {"0": "图 1.png", "1": "la.mp3"}
        assert (package.read("0"), package.read("1")) == (b"picture", b"la" * 5000)


def test_a_media_file_that_cannot_be_read_keeps_the_old_package(tmp_path: Path) -> None:
    out = tmp_path / "out.apkg"
    out.write_bytes(b"old")
    with pytest.raises(ExportError, match="cannot be written: no such file"):
        apkg.write(out, b"rows", {"gone.png": tmp_path / "gone.png"})
    assert out.read_bytes() == b"old"
