"""CSV and TSV → cards: a row is a card, its first column the question, its second the answer, as in Anki.

A quote that is never closed swallows the rest of a file without an error, since a quoted field may hold line ends. So
the file is read with a line of our own at its end: if that comes back as a part of a field, a quote is open.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from llmquiz.anki.archive.limits import Limits
from llmquiz.core.card import Lang
from llmquiz.core.errors import ImportFileError, UsageError
from llmquiz.deck import cloze
from llmquiz.exchange.csvhead import Column, Role, columns_of, names_roles, read_head, separator, sniff
from llmquiz.exchange.faces import Face, Mark, TooManyGapsError, bounded, dollars, hard_breaks, unmarked, with_gaps
from llmquiz.exchange.gather import Draft, Findings, gather
from llmquiz.exchange.textfile import TextFile, opened
from llmquiz.notes.markdown import markdown
from llmquiz.store.incoming import Incoming

ORIGIN = "csv"
_SAMPLE = 200  # lines
_END = "\0"
_MOST_COLUMNS = 1000
_HTML = re.compile(
    r"</?(?:a|b|br|code|div|em|font|h[1-6]|hr|i|img|li|ol|p|pre|span|strong|su[bp]|table|t[dhr]|u|ul)"
    r"(?:\s*/?>|\s+[a-z-]{1,20}\s?=)",
    re.IGNORECASE,
)
_BETWEEN_TAGS = re.compile(r"[\s,;，；、]+")
_REVERSED = ("reversed", "反向", "翻转", "双向")
_NO_CLOZE = ("basic", "基础", "问答题")
_SHORT_ID = 8


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read the files, where the user knows better.

    Attributes:
        deck: the name of the deck of all cards.
        columns: what the columns are, e.g. ``("front", "back", "tags", "-")``.
        separator, encoding, html: instead of what the file seems to have.
        reverse: ask every card both ways.
    """

    deck: str | None = None
    columns: Sequence[str] = ()
    separator: str | None = None
    encoding: str | None = None
    html: bool | None = None
    reverse: bool = False


def read(
    paths: Sequence[Path], limits: Limits, reading: Reading | None = None, *, lang: Lang | None = None
) -> Incoming:
    """The cards of CSV files. Several files are one import: a question that two of them have in one deck comes once.

    Raises:
        ImportFileError: if a file cannot be read; with its line.
        UsageError: if `reading` does not make sense.
    """
    findings = Findings()
    how = reading or Reading()
    tables = [_Table(opened(path, limits, how.encoding), how, findings) for path in paths]
    return gather(
        ORIGIN,
        lambda found: (draft for table in tables for draft in table.drafts(found)),
        limits,
        lang=lang,
        findings=findings,
        empty=f"{', '.join(table.name for table in tables)}: no row has a question and an answer",
    )


class _Table:
    """One file: its head is read when it is made, its rows as often as they are asked for."""

    def __init__(self, file: TextFile, how: Reading, findings: Findings) -> None:
        self._file, self._how = file, how
        sample = list(islice(file.lines(), _SAMPLE))
        self._head = read_head(sample)
        rest = [line for line in sample[self._head.lines :] if line.strip()]
        self._separator = self._chosen_separator(rest)
        csv.field_size_limit(max(csv.field_size_limit(), file.longest + 1))
        self._html = self._is_html(rest, findings)
        names = self._names()
        _, first = next(self._rows(), (0, []))
        self._has_header = not self._head.names and names_roles(first)
        self._width = len(first)
        self._columns = columns_of(self._head, names or (first if self._has_header else []), self._width)
        if file.encoding == "gb18030" and not how.encoding:
            findings.add(file.name, "read as GB18030; --encoding names another")

    @property
    def name(self) -> str:
        return self._file.name

    def _chosen_separator(self, sample: Sequence[str]) -> str:
        if self._how.separator is None:
            return self._head.separator or sniff(sample)
        chosen = separator(self._how.separator)
        if chosen is None:
            raise UsageError(f"separator '{self._how.separator}' is none of comma, semicolon, tab, space, pipe, colon")
        return chosen

    def _is_html(self, sample: Sequence[str], findings: Findings) -> bool:
        if self._how.html is not None or self._head.html is not None:
            return bool(self._head.html if self._how.html is None else self._how.html)
        found = any(_HTML.search(line) for line in sample)
        if found:
            findings.add(self._file.name, "read as HTML, since it has tags of HTML; --no-html shows them as they are")
        return found

    def _names(self) -> list[str]:
        if self._how.columns:
            if not names_roles(self._how.columns):
                raise UsageError("--columns must name a front and a back, e.g. --columns front,back,tags,-")
            return list(self._how.columns)
        return next(csv.reader([self._head.names], delimiter=self._separator), []) if self._head.names else []

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Rows that are not empty, each with the line that it starts in."""
        feed = _Feed(self._file, self._head.lines)
        try:
            for row in csv.reader(feed, delimiter=self._separator):
                line, is_comment = feed.next_row()
                if row and _END in row[-1]:
                    if row != [_END]:
                        problem = 'a quote is never closed; end the field with ", or double a " inside it'
                        raise ImportFileError(f"{self._file.name}:{line}: {problem}")
                    return
                if any(map(str.strip, row)) and not (is_comment and self._head.comments):
                    yield line, row
        except csv.Error as error:
            raise ImportFileError(f"{self._file.name}:{feed.line}: cannot be read as CSV: {error}") from error

    def drafts(self, findings: Findings) -> Iterator[Draft]:
        rows = self._rows()
        if self._has_header:
            next(rows, None)
        for line, row in rows:
            place = f"{self._file.name}:{line}"
            if len(row) > _MOST_COLUMNS:
                findings.add(place, f"more than {_MOST_COLUMNS} columns; left out")
                continue
            if len(row) != self._width:
                findings.add(place, f"{len(row)} columns where the first row has {self._width}")
            draft = self._draft(place, row, findings)
            if draft:
                yield draft

    def _draft(self, place: str, row: Sequence[str], findings: Findings) -> Draft | None:
        cells = {role: row[at].strip() for at, (role, _) in enumerate(self._columns) if at < len(row)}
        front = cells.get(Role.FRONT, "")
        deck = self._how.deck or cells.get(Role.DECK) or self._head.deck or self._file.path.stem
        guid = cells.get(Role.GUID, "")
        try:
            faces = self._faces(row, cells)
        except (cloze.ClozeError, TooManyGapsError) as error:
            findings.add(place, f"{error}; left out")
            return None
        if not faces:
            findings.add(place, "no answer; left out" if front else "no question; left out")
            return None
        return Draft(
            key=_key(deck, front, guid),
            deck=deck,
            faces=faces,
            place=place,
            tags=[*self._head.tags, *_BETWEEN_TAGS.split(cells.get(Role.TAGS, ""))],
        )

    def _faces(self, row: Sequence[str], cells: dict[Role, str]) -> list[Face]:
        front, back = self._markdown(cells.get(Role.FRONT, "")), self._markdown(cells.get(Role.BACK, ""))
        back = "\n\n".join(part for part in (back, *self._extras(row)) if part)
        notetype = (cells.get(Role.NOTETYPE) or self._head.notetype).lower()
        if "{{c" in front and not any(word in notetype for word in _NO_CLOZE):
            return _cloze_faces(front, back)
        if not front or not back:
            return []
        both = self._how.reverse or any(word in notetype for word in _REVERSED)
        return [(front, back), (back, front)] if both else [(front, back)]

    def _extras(self, row: Sequence[str]) -> Iterator[str]:
        """The columns beyond question and answer, under their names."""
        named = [*self._columns, *[Column(Role.EXTRA, "")] * (len(row) - len(self._columns))]
        for cell, (role, name) in zip(row, named, strict=False):
            if role is Role.EXTRA and cell.strip():
                text = self._markdown(cell.strip())
                yield f"**{name.strip()}**\n\n{text}" if name.strip() else text

    def _markdown(self, cell: str) -> str:
        if not self._html:
            return hard_breaks(dollars(cell))
        return markdown(cell)


class _Feed:
    """The lines of a file for `csv`, and at its end one of our own; keeps an eye on how much one row takes."""

    def __init__(self, file: TextFile, skipped: int) -> None:
        self.line = skipped
        self._file = file
        self._lines = islice(file.lines(), skipped, None)
        self._start, self._comment, self._size = skipped + 1, False, 0
        self._ended = False

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line = next(self._lines, None)
        if line is None:
            if self._ended:
                raise StopIteration
            self._ended = True
            return f"{_END}\n"
        self.line += 1
        if not self._size:
            self._start, self._comment = self.line, line.startswith("#")
        self._size += len(line)
        if self._size > self._file.longest:
            problem = f"row of more than {self._file.longest:,} characters; is a quote open?"
            raise ImportFileError(f"{self._file.name}:{self._start}: {problem}")
        return line if line.endswith("\n") else f"{line}\n"

    def next_row(self) -> tuple[int, bool]:
        """The first line of the row that was read, and whether it starts with ``#``."""
        self._size = 0
        return self._start, self._comment


def _key(deck: str, front: str, guid: str) -> str:
    """By its id if the row has one; a short one, such as a running number, is taken to count within its deck."""
    if len(guid) >= _SHORT_ID:
        return f"guid\x1f{guid}"
    return f"{deck}\x1fguid\x1f{guid}" if guid else f"{deck}\x1f{front}"


def _cloze_faces(front: str, back: str) -> list[Face]:
    """A face for each number of a deletion in `front`; `back` stands below every answer."""
    deletions = cloze.deletions(front)
    bounded(len(deletions))
    text, gaps = unmarked(front, [Mark(it.start, it.stop, it.text, it.hint) for it in deletions])
    cards = [
        "".join("a" if it.index == index else "s" for it in deletions)
        for index in sorted({it.index for it in deletions})
    ]
    return [(hidden, f"{shown}\n\n{back}" if back else shown) for hidden, shown in with_gaps(text, gaps, cards)]
