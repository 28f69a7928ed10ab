"""Pictures and sounds in Markdown, ``![words](path)``: under a name for the media folder, with the file to copy there.

Paths count from the file that shows them, or from the folder that is imported; a path that leads out of that folder,
or to no file, stays as it is written and shows nothing.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

from llmquiz.anki.archive.limits import Limits
from llmquiz.core.errors import ImportFileError
from llmquiz.deck.inline import Part, segments
from llmquiz.deck.reading import printable
from llmquiz.exchange.folder import Folder, media_name
from llmquiz.exchange.gather import Findings
from llmquiz.exchange.textfile import MIB, reading
from llmquiz.store.incoming import IncomingMedia

_LONGEST_PATH = 500
_PICTURE = re.compile(
    rf"!\[(?P<words>[^\[\]\n]{{0,300}})\]\((?:<(?P<angled>[^<>\n]{{1,{_LONGEST_PATH}}})>|(?P<path>[^()<>\n]{{1,{_LONGEST_PATH}}}))\)"
)
_TITLE = re.compile(r"""\s+["'][^"']*["']\s*$""")


class Pictures:
    """The pictures and sounds of one folder's cards, as they are met."""

    def __init__(self, folder: Folder, limits: Limits, findings: Findings) -> None:
        self._folder, self._limits, self._findings = folder, limits, findings
        self._met: dict[str, None] = {}
        self._missing: dict[str, None] = {}

    def shown(self, markdown: str, note: str) -> str:
        """`markdown`, which stands in `note`, with the names of the media folder."""
        return outside_code(markdown, lambda text: _PICTURE.sub(partial(self._picture, note), text), "![")

    def name(self, target: str, note: str, *, anywhere: bool = False) -> str | None:
        """The name of the file that `note` calls `target`; None if there is none."""
        path = self._folder.media_file(target, note, anywhere=anywhere)
        if path is None:
            self._missing.setdefault(f"{self._folder.root / note}: '{target}'")
            return None
        self._met.setdefault(path)
        return media_name(path)

    def media(self) -> list[IncomingMedia]:
        """The files of all that was met; what was not found is noted.

        Raises:
            ImportFileError: if they are too large together.
        """
        for place in self._missing:
            self._findings.add(printable(place), "no such picture or sound; shown by its name")
        files = [self._folder.media[path] for path in self._met]
        if sum(file.stat().st_size for file in files) > self._limits.total_mb * MIB:
            raise ImportFileError(f"more than {self._limits.total_mb} MiB of pictures; raise total_mb in [limits]")
        return [IncomingMedia(media_name(path), partial(self._open, self._folder.media[path])) for path in self._met]

    def _picture(self, note: str, match: re.Match[str]) -> str:
        target = match["angled"] or _TITLE.sub("", match["path"]).strip()
        if "://" in target:
            return match[0]
        name = self.name(target, note)
        return f"![{match['words']}]({name})" if name else match[0]

    def _open(self, file: Path) -> BinaryIO:
        most = self._limits.file_mb * MIB
        with reading(file), file.open("rb") as stream:
            data = stream.read(most + 1)
        if len(data) > most:
            raise ImportFileError(f"{printable(str(file))}: larger than {self._limits.file_mb} MiB; leave it out")
        return io.BytesIO(data)


def outside_code(markdown: str, change: Callable[[str], str], mark: str) -> str:
    """`markdown` with its text changed, but neither its code nor its formulas; untouched where `mark` is nowhere."""
    if mark not in markdown:
        return markdown
    return "".join(change(it.source) if it.part is Part.TEXT else it.source for it in segments(markdown))
