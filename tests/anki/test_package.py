"""Packages as Anki writes them, and as somebody does who wants to fill a disk, climb out of a folder or hang a reader.

`corpus/schema11.apkg` and `corpus/schema18.apkg` were exported by Anki 26.9 from one collection.
"""

from __future__ import annotations

import io
import json
import os
import struct
import tempfile
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import zstandard

from llmquiz.anki.archive import names
from llmquiz.anki.archive.limits import MB, Limits
from llmquiz.anki.archive.package import Package, opened
from llmquiz.core.errors import ImportFileError, SettingsError

CORPUS = Path(__file__).with_name("corpus")
LIMITS = Limits()
ANKI2, ANKI21, ANKI21B = (bytes([8, version]) for version in (1, 2, 3))


def parts(name: str) -> dict[str, bytes]:
    """The files of a kept package."""
    with zipfile.ZipFile(CORPUS / name) as package:
        return {entry.filename: package.read(entry) for entry in package.infolist()}


OLD, NEW = parts("schema11.apkg"), parts("schema18.apkg")


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as package:
        for name, data in files.items():
            package.writestr(name, data)
    return out.getvalue()


def entry(name: str, size: int) -> bytes:
    """An entry of a media map, with `size` as a varint of five bytes."""
    spread = bytes((size >> shift & 0x7F) | (0x80 if shift < 28 else 0) for shift in range(0, 35, 7))
    message = b"\x0a" + bytes([len(name.encode())]) + name.encode() + b"\x10" + spread
    return b"\x0a" + bytes([len(message)]) + message


def media_map(**sizes: int) -> bytes:
    return zstandard.compress(b"".join(entry(name, size) for name, size in sizes.items()))


def zeros(megabytes: int) -> bytes:
    """So many MiB of zeros, packed by zstd without ever being in memory."""
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    return b"".join(packer.compress(bytes(MB)) for _ in range(megabytes)) + packer.flush()


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files; a test may leave nothing in it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def package(tmp_path: Path) -> Iterator:
    """Writes a package and opens it: `package(files)` or `package(bytes)`."""
    with ExitStack() as stack:

        def make(content: dict[str, bytes] | bytes, limits: Limits = LIMITS) -> Package:
            path = tmp_path / "deck.apkg"
            path.write_bytes(zipped(content) if isinstance(content, dict) else content)
            return stack.enter_context(opened(path, limits))

        yield make


def refusal(package, content: dict[str, bytes] | bytes, limits: Limits = LIMITS) -> str:
    """What the one line says with which the package is refused, without its path."""
    with pytest.raises(ImportFileError) as caught:
        package(content, limits)
    return said(caught.value)


def said(error: ImportFileError) -> str:
    line = str(error)
    assert line.isprintable()
    return line.split("deck.apkg: ", 1)[1]


class TestAsAnkiWritesThem:
    def test_the_newest(self, package) -> None:
        opened_ = package(NEW)
        assert opened_.version == "anki21b"
        assert opened_.collection.read_bytes().startswith(b"SQLite format 3\0")
        assert opened_.media["pic.png"].open().read() == OLD["0"]
        assert opened_.findings == []

    def test_the_one_before(self, package) -> None:
        opened_ = package(OLD)
        assert opened_.version == "anki21"
        assert opened_.collection.read_bytes() == OLD["collection.anki21"]
        assert opened_.media["pic.png"].open().read() == OLD["0"]

    @pytest.mark.parametrize(
        ("files", "version"),
        [
            ({"collection.anki2": b"2", "media": b"{}"}, "anki2"),
            ({"collection.anki2": b"2"}, "anki2"),
            ({"meta": ANKI2, "collection.anki2": b"2", "media": b"{}"}, "anki2"),
            ({"collection.anki2": b"dummy", "collection.anki21": b"21", "media": b" {\n} "}, "anki21"),
            ({"meta": ANKI21, "collection.anki2": b"dummy", "collection.anki21": b"21", "media": b"{}"}, "anki21"),
        ],
    )
    def test_the_older_ones(self, package, files: dict[str, bytes], version: str) -> None:
        opened_ = package(files)
        assert opened_.version == version
        assert opened_.collection.read_bytes() == files[f"collection.{version}"]

    def test_media_can_be_read_twice_and_in_pieces(self, package) -> None:
        for files in (OLD, NEW):
            file = package(files).media["pic.png"]
            assert file.size == len(OLD["0"])
            first, second = file.open(), file.open()
            assert first.read(3) == second.read(3) == OLD["0"][:3]
            assert first.read() == second.read() == OLD["0"][3:]

    def test_what_a_killed_import_left_is_swept_after_a_day(self, tmp_path: Path, temporary: Path) -> None:
        for name, hours in (("old", 25), ("young", 1)):
            folder = temporary / f"llmquiz-import-{name}"
            folder.mkdir()
            (folder / "collection").touch()
            os.utime(folder, (time.time() - hours * 3600,) * 2)
        path = tmp_path / "deck.apkg"
        path.write_bytes(zipped(OLD))
        with opened(path, LIMITS):
            assert not (temporary / "llmquiz-import-old").exists()
        (temporary / "llmquiz-import-young" / "collection").unlink()
        (temporary / "llmquiz-import-young").rmdir()

    def test_the_collection_goes_with_the_package(self, tmp_path: Path, temporary: Path) -> None:
        path = tmp_path / "deck.apkg"
        path.write_bytes(zipped(OLD))
        context = opened(path, LIMITS)
        package = context.__enter__()
        assert package.collection.is_relative_to(temporary)
        assert package.collection.parent.stat().st_mode & 0o077 == 0
        assert not context.__exit__(RuntimeError, RuntimeError(), None)
        assert not package.collection.exists()
        assert path.read_bytes() == zipped(OLD)

    def test_an_archive_of_the_wide_kind(self, package) -> None:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, data in OLD.items():
                with archive.open(name, "w", force_zip64=True) as file:
                    file.write(data)
        assert package(out.getvalue()).media["pic.png"].open().read() == OLD["0"]

    def test_an_archive_with_the_wide_end(self, package, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
        data = zipped(OLD)
        assert b"PK\6\6" in data
        assert package(data).media["pic.png"].open().read() == OLD["0"]

    def test_sizes_that_stand_in_the_wide_fields(self, package) -> None:
        data = bytearray(zipped({"collection.anki2": b"two"}, zipfile.ZIP_STORED))
        start, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
        header = bytearray(data[start:end])
        header[20:28] = b"\xff" * 8
        header[30:32] = struct.pack("<H", 20)
        header += struct.pack("<2H2Q", 1, 16, 3, 3)
        tail = bytearray(data[end:])
        tail[12:16] = struct.pack("<L", len(header))
        assert package(bytes(data[:start] + header + tail)).collection.read_bytes() == b"two"


class TestBombs:
    """The bound of each: nothing beyond the limit is unpacked, in memory or on disk."""

    @pytest.fixture(autouse=True)
    def little_memory(self) -> Iterator[None]:
        tracemalloc.start()
        try:
            yield
            assert tracemalloc.get_traced_memory()[1] < 8 * MB
        finally:
            tracemalloc.stop()

    @pytest.fixture(scope="class")
    def bomb(self) -> bytes:
        """64 MiB in 10 KB or less."""
        return zeros(64)

    def test_a_collection(self, package, bomb: bytes) -> None:
        line = refusal(package, {**NEW, "collection.anki21b": bomb})
        assert line == "'collection.anki21b' unpacks to more than 200 times its size (limits.ratio)"
        line = refusal(package, {**NEW, "collection.anki21b": bomb}, Limits(file_mb=2))
        assert line == "'collection.anki21b' has more than 2 MiB (limits.file_mb)"

    def test_a_media_map(self, package, bomb: bytes) -> None:
        line = refusal(package, {**NEW, "media": bomb}, Limits(media_map_mb=1))
        assert line == "its media map has more than 1,048,576 bytes (limits.media_map_mb)"

    def test_a_media_map_of_many_files(self, package) -> None:
        limits = Limits(files=100)
        many = "{" + ",".join(f'"{number}":"{number}.png"' for number in range(101)) + "}"
        line = refusal(package, {**OLD, "media": many.encode()}, limits)
        assert line == "its media map cannot be read: more than 100 files (limits.files); in Anki, export it again"
        line = refusal(package, {**NEW, "media": zstandard.compress(entry("a.png", 1) * 101)}, limits)
        assert line == "its media map cannot be read: more than 100 fields; in Anki, export it again"

    def test_a_media_file_that_says_less_than_it_holds(self, package, bomb: bytes) -> None:
        file = package({**NEW, "0": bomb, "media": media_map(a=1000)}).media["a"]
        with pytest.raises(ImportFileError, match=r"the media file '0' does not have the 1,000 bytes that it says"):
            file.open().read()

    def test_a_media_file_that_says_what_it_holds(self, package, bomb: bytes) -> None:
        line = refusal(package, {**NEW, "0": bomb, "media": media_map(a=64 * MB)})
        assert line == "'a' unpacks to more than 200 times its size (limits.ratio)"

    def test_many_media_files_together(self, package) -> None:
        files = {**NEW, "0": zeros(10), "1": zeros(10), "media": media_map(a=10 * MB, b=10 * MB)}
        line = refusal(package, files, Limits(total_mb=20))
        assert line == "its files have more than 20 MiB together (limits.total_mb)"

    def test_a_deflated_file(self, package) -> None:
        files = zipped({**OLD, "0": bytes(4 * MB)})
        assert refusal(package, files, Limits(file_mb=3)) == "'0' has more than 3 MiB (limits.file_mb)"
        assert "more than 3 MiB together" in refusal(package, files, Limits(total_mb=3))
        size = struct.pack("<L", 4 * MB)
        lying = files.replace(size, struct.pack("<L", 1004))
        file = package(lying).media["pic.png"]
        with pytest.raises(ImportFileError, match="the entry '0' is larger than it says"):
            file.open().read()

    def test_many_files(self, package) -> None:
        many = {str(number): b"" for number in range(200)}
        assert refusal(package, {**OLD, **many}, Limits(files=150)) == "more than 150 files (limits.files)"

    def test_a_window_of_two_gigabytes(self, package) -> None:
        frame = b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00"
        assert "Frame requires too much memory" in refusal(package, {**NEW, "collection.anki21b": frame})

    def test_an_archive_inside_is_bytes(self, package) -> None:
        inner = zipped({"../x": b"", "0": b"0"})
        assert package({**OLD, "0": inner}).media["pic.png"].open().read() == inner


class TestHostileArchives:
    @pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "C:x", "c:\\x", "..\\x", "a\\b", "x\x1b[2J", ".."])
    def test_names_outside_of_the_folder(self, package, name: str) -> None:
        placeholder = "n" * len(name)
        data = zipped({**OLD, placeholder: b""}).replace(placeholder.encode(), name.encode())
        assert "would lie outside of its folder" in refusal(package, data)

    def test_other_entries_are_not_looked_at(self, package) -> None:
        assert package({**OLD, "__MACOSX/._0": b"x", ".DS_Store": b"y"}).findings == []

    def test_a_link(self, package) -> None:
        out = io.BytesIO(zipped(OLD))
        with zipfile.ZipFile(out, "a") as archive:
            link = zipfile.ZipInfo("9")
            link.external_attr = 0o120777 << 16
            archive.writestr(link, "/etc/passwd")
        assert refusal(package, out.getvalue()) == "the entry '9' is a link; no Anki writes such a package"

    def test_one_name_twice(self, package) -> None:
        data = zipped({**OLD, "7": b"one", "8": b"two"}).replace(b"8PK", b"7PK").replace(b"8two", b"7two")
        data = data[: data.rindex(b"8")] + b"7" + data[data.rindex(b"8") + 1 :]
        assert refusal(package, data) == "the entry '7' is there twice"

    def test_a_name_too_long(self, package) -> None:
        assert "name has more than 255 bytes" in refusal(package, {**OLD, "n" * 256: b""})

    def test_an_encrypted_entry(self, package) -> None:
        assert "is encrypted" in refusal(package, patched(zipped(OLD), 8, b"\x01\x00"))

    @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_an_unknown_method(self, package, method: int) -> None:
        assert f"packed by the unknown method {method}" in refusal(package, zipped(OLD, method))

    def test_entries_that_overlap(self, package) -> None:
        data = zipped({"collection.anki2": bytes(1000), "0": bytes(1000), "media": b"{}"}, zipfile.ZIP_STORED)
        assert "its entries overlap" in refusal(package, patched(data, 20, struct.pack("<2L", 2500, 2500)))

    @pytest.mark.parametrize("size", [999, 1001, 0])
    def test_a_lying_header(self, package, size: int) -> None:
        data = zipped({"collection.anki2": bytes(1000), "media": b"{}"})
        line = refusal(package, patched(data, 24, struct.pack("<L", size)))
        assert line.endswith("it is damaged or incomplete; get it again")

    def test_a_header_that_speaks_of_another_file(self, package) -> None:
        data = zipped({"collection.anki2": b"2", "media": b"{}"}, zipfile.ZIP_STORED)
        assert "is not where the directory says" in refusal(package, data.replace(b"collection", b"kollection", 1))

    def test_a_changed_byte(self, package) -> None:
        data = zipped({"collection.anki2": b"a sound page", "media": b"{}"}, zipfile.ZIP_STORED)
        assert "does not match its checksum" in refusal(package, data.replace(b"sound", b"hound"))

    def test_every_truncation(self, package) -> None:
        data = zipped(NEW)
        for size in (*range(0, len(data), 997), len(data) - 1):
            assert refusal(package, data[:size])

    @pytest.mark.parametrize(
        ("meta", "words"),
        [
            (b"", "package version 0 is not known; in Anki, export it with 'Support older Anki versions' ticked"),
            (b"\x08\x04", "package version 4 is not known"),
            (b"\x08\xff\xff\xff\xff\x0f", "package version 4294967295 is not known"),
            (b"\x08", "its meta is not that of an Anki package: it ends inside a number"),
            (b"\x0a\x01x", "its meta is not that of an Anki package: field 1 is no integer"),
            (bytes(1025), "meta has more than 1,024 bytes"),
        ],
    )
    def test_another_version(self, package, meta: bytes, words: str) -> None:
        assert refusal(package, {**NEW, "meta": meta}).startswith(words)

    def test_the_dummy_is_never_the_collection(self, package) -> None:
        assert "collection.anki2" in NEW
        bare = {name: data for name, data in NEW.items() if name != "collection.anki21b"}
        assert refusal(package, bare) == "there is no collection.anki21b in it; in Anki, export it again"
        del bare["meta"]
        line = refusal(package, {**bare, "collection.anki21b": NEW["collection.anki21b"]})
        assert line == "it has a collection.anki21b, but no meta; in Anki, export it again"
        assert "there is no collection.anki21 in it" in refusal(package, {"meta": ANKI21, "collection.anki2": b""})
        assert "there is no collection.anki2 in it" in refusal(package, {"media": b"{}"})

    @pytest.mark.parametrize(
        "content", [b"", b"x", b"SQLite format 3\0" + bytes(100), b"PK\5\6", b"PK\3\4" + bytes(99)]
    )
    def test_no_archive(self, package, content: bytes) -> None:
        assert refusal(package, content).startswith("not an Anki package (.apkg or .colpkg)")

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ImportFileError, match="there is no such file"), opened(tmp_path / "none.apkg", LIMITS):
            pass
        with pytest.raises(ImportFileError, match="is no file"), opened(tmp_path, LIMITS):
            pass

    @pytest.mark.parametrize(
        "data", [b"", b"x" * 100, NEW["collection.anki21b"][:100], b"\x28\xb5\x2f\xfd" + bytes(50)]
    )
    def test_no_zstd(self, package, data: bytes) -> None:
        file = package({**NEW, "0": data}).media["pic.png"]
        with pytest.raises(ImportFileError) as caught:
            file.open().read()
        assert "the entry '0' is not packed with zstd" in said(caught.value) or "1,004 bytes" in said(caught.value)

    def test_a_full_disk(self, package, monkeypatch: pytest.MonkeyPatch) -> None:
        if not Path("/dev/full").exists():
            pytest.skip("needs a device that is always full")
        monkeypatch.setattr(Path, "open", opens_full(Path.open))
        assert "is full; free some space or set TMPDIR to another folder" in refusal(package, OLD)


def opens_full(real):
    """`Path.open` that writes to a full disk."""
    return lambda path, mode="r", *rest: real(Path("/dev/full") if "x" in mode else path, mode.replace("x", "w"), *rest)


def patched(data: bytes, at: int, change: bytes) -> bytes:
    """The archive with bytes of its directory's first header changed."""
    start = data.index(b"PK\1\2") + at
    return data[:start] + change + data[start + len(change) :]


class TestMediaNames:
    @pytest.mark.parametrize(
        "name",
        [
            "../x.png", "/x.png", "a/b.png", "a\\b.png", "C:x.png", "C:\\x.png", "x\x00.png", "x\x1b[2J.png", "x\n.png",
            "x\u202egnp.exe", "\u2066x.png", "", ".", "..", "x.", "x ", " x", "con", "NUL.png", "com1.tar.gz", "LPT9",
            "x?.png", "x:y.png", "n" * 252 + ".png", "图" * 85 + ".png", "\ud800.png", "x\u0085.png",
        ],
    )  # fmt: skip
    def test_unsafe(self, package, name: str) -> None:
        assert names.media(name) is None
        opened_ = package({**OLD, "media": json.dumps({"0": name}).encode()})
        assert not opened_.media
        (finding,) = opened_.findings
        assert finding.isprintable()
        assert finding.endswith("left out, no file may have such a name")

    @pytest.mark.parametrize(
        "name", ["x.png", ".x", "-x", "a b.png", "图.png", "console.png", "x..png", "n" * 251 + ".png"]
    )
    def test_safe(self, name: str) -> None:
        assert names.media(name) == name

    def test_are_composed(self, package) -> None:
        assert list(package({**OLD, "media": '{"0": "e\u0301.png"}'.encode()}).media) == ["é.png"]

    def test_that_differ_in_case_collide(self, package) -> None:
        opened_ = package({**OLD, "1": b"", "2": b"", "media": b'{"0": "A.png", "1": "a.PNG", "2": "a.png"}'})
        assert list(opened_.media) == ["A.png"]
        assert opened_.findings == ["media 'a.PNG' and 1 more: left out, another file differs in case at most"]

    def test_of_files_that_are_not_there(self, package) -> None:
        opened_ = package({**OLD, "media": b'{"0": "a.png", "7": "b.png", "collection.anki21": "c.png", "../x": "d"}'})
        assert list(opened_.media) == ["a.png"]
        assert opened_.findings == ["media 'b.png' and 2 more: left out, the package does not hold it"]

    @pytest.mark.parametrize(
        "data",
        [
            b"", b"[]", b"[" * 100_000, b"{", b'{"0"', b'{"0":1}', b'{"0":{"1":"x"}}', b'{"0":"x",}', b'{"0":"x"',
            b'{"0":"\\ud8"}', b'{"0":"x\n"}', b"\xff\xfe{}", b'{"0":"' + b"a" * 100_000, b"null", b"{,}",
        ],
    )  # fmt: skip
    def test_a_map_that_is_none(self, package, data: bytes) -> None:
        assert refusal(package, {**OLD, "media": data}).startswith("its media map cannot be read: ")

    def test_a_newer_map_that_is_none(self, package) -> None:
        line = refusal(package, {**NEW, "media": zstandard.compress(b"\x0a\x05abc")})
        assert line.startswith("its media map cannot be read: a field of 5 bytes where 3 are left")


class TestLimits:
    def test_are_read_from_settings(self) -> None:
        assert Limits.from_mapping({}) == Limits()
        assert Limits.from_mapping({"file_mb": 7}).file_mb == 7

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"file": 1}, "limits: unknown limit 'file'; known are cards, "),
            ({"files": 0}, "limits: files must be a whole number above 0, not 0"),
            ({"files": True}, "limits: files must be a whole number above 0, not True"),
            ({"files": "many"}, "limits: files must be a whole number above 0, not 'many'"),
        ],
    )
    def test_that_cannot_be(self, values: dict[str, object], words: str) -> None:
        with pytest.raises(SettingsError, match=words):
            Limits.from_mapping(values)
