"""Text files that anybody may have written: a bound on every size, and lines with ``\\n`` ends whatever they had.

Nothing is read as a whole that could be read line by line: a file may be larger than the memory, a single line, too.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llmquiz.anki.archive.limits import Limits
from llmquiz.core.errors import ImportFileError
from llmquiz.deck.reading import printable
from llmquiz.exchange import encoding as encodings

MIB, KIB = 2**20, 2**10


@dataclass(frozen=True, slots=True)
class TextFile:
    """A regular file that is text, as far as it has been looked at.

    Attributes:
        encoding: one that decodes all of it.
        longest: characters that a line may have.
    """

    path: Path
    encoding: str
    longest: int

    @property
    def name(self) -> str:
        """The path, safe to print."""
        return printable(str(self.path))

    def lines(self) -> Iterator[str]:
        """Its lines, each with its ``\\n``, the last one as it is.

        Raises:
            ImportFileError: if a line is too long or holds a zero, or the file changes or cannot be read.
        """
        number = 0
        with reading(self.path), self.path.open(encoding=self.encoding, newline=None) as file:
            while line := file.readline(self.longest + 1):
                number += 1
                if len(line) > self.longest:
                    problem = f"line of more than {self.longest:,} characters; break it, or raise field_kb in [limits]"
                    raise ImportFileError(f"{self.name}:{number}: {problem}")
                if "\0" in line:
                    raise ImportFileError(
                        f"{self.name}:{number}: holds a zero byte, so it is no text; is it another file?"
                    )
                yield line

    def text(self) -> str:
        """All of it."""
        return "".join(self.lines())


def opened(path: Path, limits: Limits, encoding: str | None = None) -> TextFile:
    """The text file at `path`; it is closed again, and opened for each reading.

    Raises:
        ImportFileError: if it is no regular file, too large, or in no known encoding.
        UsageError: if `encoding` is unknown.
    """
    with reading(path):
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImportFileError(f"{printable(str(path))}: not a regular file; name a text file")
        if status.st_size > limits.file_mb * MIB:
            problem = f"larger than {limits.file_mb} MiB; split it, or raise file_mb in [limits]"
            raise ImportFileError(f"{printable(str(path))}: {problem}")
        found = encodings.check(path, encoding) if encoding else encodings.detect(path)
    return TextFile(path, found, limits.field_kb * KIB)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what the file system refuses into one line."""
    try:
        yield
    except UnicodeError as error:
        raise ImportFileError(f"{printable(str(path))}: has changed while it was read; start again") from error
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        reason = (getattr(error, "strerror", None) or "unknown reason").lower()
        raise ImportFileError(f"{printable(str(path))}: cannot be read: {reason}") from error
