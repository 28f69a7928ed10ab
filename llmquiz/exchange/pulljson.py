"""JSON in pieces: the reader asks for the next mark or the next small value, so a file of any size needs little memory.

Only the values themselves are held, never the lists that they stand in. So whoever reads must know the form of the
file; spaces and line ends may be anywhere, as JSON has it.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import re
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

from llmquiz.anki.archive.limits import Limits
from llmquiz.core.errors import ImportFileError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CHUNK = 1 << 18  # bytes
MAX_VALUE = 64 << 20  # characters of one value
RATIO_FROM = 16 << 20  # bytes of output up to which any ratio is believed
_SPACE = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_MAX_MARKS = 1 << 16  # characters of a value that are no text: marks, numbers, spaces
_TAIL = 16  # characters; an error so near to the end may be that of a value that goes on
_GZIP = b"\x1f\x8b"


class Bytes:
    """The bytes of a file, unpacked if it is gzip, and never more of them than the limits allow.

    Args:
        limits: `total_mb` bounds the text, unpacked; `ratio` the unpacked bytes for each packed one, from
            `RATIO_FROM` on.
    """

    def __init__(self, file: BinaryIO, name: str, limits: Limits) -> None:
        self._name, self._limits = name, limits
        self._packed, self._count = _Counted(file), 0
        buffered = io.BufferedReader(self._packed, CHUNK)
        is_packed = buffered.peek(len(_GZIP)).startswith(_GZIP)
        self._file = gzip.GzipFile(fileobj=buffered) if is_packed else buffered

    @property
    def position(self) -> int:
        """Bytes read of the file itself."""
        return self._packed.count

    def read(self, count: int) -> bytes:
        """The next bytes, at most `count`; empty at the end.

        Raises:
            ImportFileError: if the file is damaged or larger than the limits.
        """
        try:
            data = self._file.read(count)
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ImportFileError(f"{self._name}: cannot be read: {reason.lower()}; nothing was changed") from error
        self._count += len(data)
        total_mb, ratio = self._limits.total_mb, self._limits.ratio
        if self._count > total_mb << 20:
            raise self._too_large(f"holds more than {total_mb:,} MiB", "total_mb")
        if self._count > RATIO_FROM and self._count > ratio * self.position:
            raise self._too_large(f"unpacks to more than {ratio} times its size", "ratio")
        return data

    def _too_large(self, what: str, limit: str) -> ImportFileError:
        return ImportFileError(f"{self._name}: {what}; if you trust it, raise {limit} under [limits] in the settings")


class _Counted(io.RawIOBase):
    """A file that counts what was read of it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.count = file, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        data = self._file.read(len(view))
        view[: len(data)] = data
        self.count += len(data)
        return len(data)


class Pull:
    """The values of a JSON text, one at a time.

    Every method raises `ImportFileError` if the text is something else than what was asked for; `where` may be set to
    what the reader is at, for the message.
    """

    def __init__(self, source: Bytes, name: str) -> None:
        self.name, self.where = name, ""
        self._source = source
        decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refused)
        self._decode = decoder.raw_decode
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._text, self._at, self._ended = "", 0, False

    def error(self, problem: str) -> ImportFileError:
        """`problem` as an error about the place that the reader is at."""
        where = f"{self.where}: " if self.where else ""
        return ImportFileError(f"{self.name}: {where}{problem}; nothing was changed")

    def next(self) -> str:
        """The next character that is no space, not yet read; empty at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, mark: str) -> None:
        """Read the character `mark`."""
        found = self.next()
        if found != mark:
            raise self.error(f"expected '{mark}', found {found!a}" if found else "ends too early")
        self._at += 1

    def goes_on(self, first: bool, end: str) -> bool:
        """Whether a list has another item (True) or ends with `end` (read as well)."""
        if self.next() == end:
            self._at += 1
            return False
        if not first:
            self.take(",")
        return True

    def key(self) -> str:
        """The next key of an object, with its colon."""
        key = self.value()
        if not isinstance(key, str):
            raise self.error("expected a name in quotes")
        self.take(":")
        return key

    def named(self, key: str) -> None:
        """Read the key `key`."""
        if (found := self.key()) != key:
            raise self.error(f"expected '{key}', found {ascii(found)[:60]}; a library has its parts in a fixed order")

    def value(self) -> Any:
        """The next value, with everything in it."""
        self.next()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._is_wrong(error) or not self._more():
                    raise self.error(self._reason(error)) from error
            except RecursionError as error:
                raise self.error("nested too deeply") from error
            except ValueError as error:
                raise self.error(str(error).partition(":")[0].lower()) from error
            else:
                # A number at the end of what was read may have more digits.
                if end < len(self._text) or self._text[end - 1] in ']}"' or not self._more():
                    self._at = end
                    return value

    def _is_wrong(self, error: json.JSONDecodeError) -> bool:
        """Whether more text cannot mend it."""
        return error.pos < len(self._text) - _TAIL and not error.msg.startswith("Unterminated")

    def _reason(self, error: json.JSONDecodeError) -> str:
        if self._ended and (error.pos >= len(self._text) - 1 or error.msg.startswith("Unterminated")):
            return "ends too early"
        return f"not JSON: {error.msg.lower().partition(':')[0]}"

    def _more(self) -> bool:
        """Read on; the text grows by as much as it holds, so that a long value is not begun too often."""
        if self._ended:
            return False
        rest = self._text[self._at :]
        if len(rest) > _MAX_MARKS and len(_STRING.sub("", rest)) > _MAX_MARKS:
            raise self.error("a value of too many parts")
        if len(rest) > MAX_VALUE:
            raise self.error(f"a value of more than {MAX_VALUE >> 20} MiB")
        data = self._source.read(max(CHUNK, len(rest)))
        try:
            self._text, self._at = rest + self._utf8.decode(data, final=not data), 0
        except UnicodeDecodeError as error:
            raise self.error("not UTF-8 text") from error
        self._ended = not data
        return not self._ended


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _refused(word: str) -> None:
    raise ValueError(f"{word} is not JSON")
