"""The .apkg file: a zip of a collection and a map of media, written beside its target and moved over it when whole."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from shutil import copyfileobj

from llmquiz.target import new_file

_LEVEL = 1
"""Of compression: a fifth of the time of zlib's default for a tenth more bytes."""
_CHUNK = 1 << 20
_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest date a zip can hold: equal content gives equal bytes."""


def write(out: Path, collection: bytes, media: Mapping[str, bytes | Path] | None = None) -> int:
    """Write the package `out`; return its size in bytes. An existing file is replaced, or kept whole on any error.

    Args:
        media: pictures and sounds by the names that notes call them, or the files that hold them.

    Raises:
        ExportError: if `out` is a folder, or cannot be written, or the disk is full.
    """
    with new_file(out, "llmquiz.apkg") as file:
        with zipfile.ZipFile(file, "w") as package:
            package.writestr(_entry("collection.anki21"), collection, compresslevel=_LEVEL)
            names = {str(number): name for number, name in enumerate(media or {})}
            package.writestr(_entry("media"), json.dumps(names, ensure_ascii=False).encode())
            for number, content in enumerate((media or {}).values()):
                _add_media(package, str(number), content)
        return file.tell()


def _add_media(package: zipfile.ZipFile, name: str, content: bytes | Path) -> None:
    """Pictures and sounds are compressed already."""
    entry = _entry(name, zipfile.ZIP_STORED)
    if isinstance(content, bytes):
        package.writestr(entry, content)
        return
    with content.open("rb") as source, package.open(entry, "w", force_zip64=True) as target:
        copyfileobj(source, target, _CHUNK)


def _entry(name: str, method: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.compress_type = method
    entry.external_attr = 0o644 << 16
    return entry
