"""Decks of hashcards → cards: ``Q:`` and ``A:``, or ``C:`` with deletions in square brackets.

hashcards names a card by a hash of its text, so that an edit makes a new card there and here; where it stands does not
matter. A cloze text is one card with a face for each deletion here, and one card for each deletion there.
https://github.com/eudoxia0/hashcards
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from llmquiz.anki.archive.limits import Limits
from llmquiz.core.card import Lang
from llmquiz.core.day import Calendar
from llmquiz.core.errors import ImportFileError
from llmquiz.deck.reading import printable
from llmquiz.exchange.blake3 import hexdigest
from llmquiz.exchange.faces import Face, Gap, TooManyGapsError, dollars, one_by_one, with_gaps
from llmquiz.exchange.folder import Folder, walk
from llmquiz.exchange.gather import Draft, Findings, gather
from llmquiz.exchange.hashprogress import DATABASE, Progress
from llmquiz.exchange.pictures import Pictures
from llmquiz.exchange.textfile import opened
from llmquiz.store.incoming import Incoming, IncomingPart

ORIGIN = "hashcards"
_TAGS = ("Q:", "A:", "C:")
_RULE = "---"


@dataclass(slots=True)
class _Block:
    """The lines of a card; `kind` is the letter of its tag."""

    kind: str
    line: int
    lines: list[str]
    answer: list[str] = field(default_factory=list)
    has_answer: bool = False


@contextmanager
def read(
    paths: Sequence[Path], limits: Limits, calendar: Calendar, *, lang: Lang | None = None, deck: str | None = None
) -> Iterator[Incoming]:
    """The cards of files and folders, with the progress of a `hashcards.db` that lies in a folder or beside a file.

    Args:
        deck: the name of the deck of all cards.

    Raises:
        ImportFileError: if there are no cards, or too many, or they cannot be read.
    """
    findings = Findings()
    folders = [walk(path, limits) for path in paths]
    for folder in folders:
        for line in folder.findings:
            findings.take(line)
    databases = dict.fromkeys(folder.root / DATABASE for folder in folders)
    progress = Progress.of([path for path in databases if path.is_file()], limits, calendar, findings)
    scopes = [_Scope(folder, limits, Pictures(folder, limits, findings), progress, deck) for folder in folders]

    def drafts(found: Findings) -> Iterator[Draft]:
        for scope in scopes:
            for note in scope.folder.notes:
                try:
                    yield from _Reader(scope, note, found).drafts()
                except ImportFileError as error:  # one file that cannot be read does not keep out the others
                    found.take(f"{error}; left out")

    named = ", ".join(printable(str(path)) for path in paths)
    yield gather(
        ORIGIN,
        drafts,
        limits,
        lang=lang,
        media=lambda: [media for scope in scopes for media in scope.pictures.media()],
        findings=findings,
        empty=f"{named}: no card of hashcards, which starts with 'Q:' or 'C:'",
    )


@dataclass(frozen=True, slots=True)
class _Scope:
    """What the files of one folder share; `deck` is the name of the deck of all, if it was given."""

    folder: Folder
    limits: Limits
    pictures: Pictures
    progress: Progress
    deck: str | None


class _Reader:
    """One file."""

    def __init__(self, scope: _Scope, note: str, findings: Findings) -> None:
        self._file = opened(scope.folder.root / note, scope.limits)
        self._scope, self._note, self._findings = scope, note, findings
        self._deck = scope.deck or Path(note).stem

    def drafts(self) -> Iterator[Draft]:
        for block in self._blocks():
            draft = self._question(block) if block.kind == "Q" else self._cloze(block)
            if draft:
                yield draft

    def _find(self, line: int, problem: str) -> None:
        self._findings.add(f"{self._file.name}:{line}", problem)

    def _blocks(self) -> Iterator[_Block]:
        block: _Block | None = None
        outside = False
        lines = self._file.text().split("\n")
        start = self._front_matter(lines)
        for number, line in enumerate(lines[start:], start=start + 1):
            tag = line[:2] if line[:2] in _TAGS else ""
            if tag == "A:" and block and block.kind == "Q" and not block.has_answer:
                block.has_answer = True
                block.answer.append(line[2:].strip())
            elif tag == "A:":
                self._find(number, "an answer without a question before it; left out")
            elif tag:
                yield from self._whole(block)
                block, outside = _Block(tag[0], number, [line[2:].strip()]), False
            elif line.strip() == _RULE:
                yield from self._whole(block)
                block, outside = None, False
            elif block:
                (block.answer if block.has_answer else block.lines).append(line)
            elif line.strip() and not outside:
                self._find(number, "text that belongs to no card; start a card with 'Q:' or 'C:'")
                outside = True
        yield from self._whole(block)

    def _whole(self, block: _Block | None) -> Iterator[_Block]:
        if block and block.kind == "Q" and not block.has_answer:
            self._find(block.line, "a question without an answer; add a line that starts with 'A:'; left out")
        elif block:
            yield block

    def _front_matter(self, lines: Sequence[str]) -> int:
        """How many lines it has; takes the deck's name from it."""
        if lines[0].strip() != _RULE:
            return 0
        end = next((number for number, line in enumerate(lines[1:], start=1) if line.strip() == _RULE), None)
        if end is None:
            self._find(1, "front matter that is never closed; end it with '---'")
            return 1
        try:
            name = tomllib.loads("\n".join(lines[1:end])).get("name")
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            self._find(1, f'front matter that is not TOML: {error}; write e.g. name = "Deck"')
            return end + 1
        if isinstance(name, str) and name.strip() and not self._scope.deck:
            self._deck = name.strip()
        return end + 1

    def _question(self, block: _Block) -> Draft:
        question, answer = "\n".join(block.lines).strip(), "\n".join(block.answer).strip()
        face = (self._markdown(question), self._markdown(answer))
        return self._draft(block, f"Basic\x1f{question}\x1f{answer}", [face], [f"Basic{question}{answer}".encode()])

    def _cloze(self, block: _Block) -> Draft | None:
        source = "\n".join(block.lines).strip()
        text, gaps = deletions(source)
        if not gaps:
            self._find(block.line, "a cloze text that hides nothing; put [brackets] around what it hides; left out")
            return None
        try:
            faces = with_gaps(text, gaps, one_by_one(len(gaps)))
        except TooManyGapsError as error:
            self._find(block.line, f"{error}; left out")
            return None
        shown = [(self._markdown(front, display=False), self._markdown(back, display=False)) for front, back in faces]
        return self._draft(block, f"Cloze\x1f{text}", shown, [_cloze_content(text, gap) for gap in gaps])

    def _draft(self, block: _Block, key: str, faces: list[Face], contents: list[bytes]) -> Draft:
        parts: dict[int, IncomingPart] = {}
        if self._scope.progress:
            known = (
                (number, self._scope.progress.part(hexdigest(data), number)) for number, data in enumerate(contents)
            )
            parts = {number: part for number, part in known if part}
        return Draft(key, self._deck, faces, f"{self._file.name}:{block.line}", parts=parts)

    def _markdown(self, text: str, *, display: bool = True) -> str:
        return dollars(self._scope.pictures.shown(text, self._note), display=display)


def deletions(source: str) -> tuple[str, list[Gap]]:
    r"""A cloze text without its brackets, and what stood in them.

    The brackets of a picture, ``![alt](…)``, stay; so do those behind a backslash, which goes. A bracket that opens
    another before it is closed starts the deletion anew.
    """
    pieces: list[str] = []
    gaps: list[Gap] = []
    start: int | None = None
    length = at = 0
    in_picture = False
    while at < len(source):
        character, following = source[at], source[at + 1 : at + 2]
        piece = character
        if character == "\\" and following in ("[", "]"):
            piece = following
            at += 1
        elif character == "!" and following == "[":
            in_picture = True
        elif character == "[" and not in_picture:
            piece, start = "", length
        elif character == "]" and in_picture:
            in_picture = False
        elif character == "]":
            piece = ""
            if start is not None and length > start:
                gaps.append(Gap(start, length))
            start = None
        pieces.append(piece)
        length += len(piece)
        at += 1
    return "".join(pieces), gaps


def _cloze_content(text: str, gap: Gap) -> bytes:
    """What hashcards hashes: the text, and the first and last byte of the deletion."""
    first = len(text[: gap.start].encode())
    last = first + len(text[gap.start : gap.stop].encode()) - 1
    return b"Cloze" + text.encode() + first.to_bytes(8, "little") + last.to_bytes(8, "little")
