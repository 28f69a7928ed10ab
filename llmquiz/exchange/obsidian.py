"""Notes of Obsidian with cards of its spaced-repetition plugin → cards: ``question::answer``, ``?`` between, clozes.

The plugin keeps its schedules in comments behind each card, and so knows a card by its text alone. Here a card is its
question in its file, so that an edited answer keeps its progress; a cloze text, which is both, begins anew.
https://stephenmwangi.com/obsidian-spaced-repetition/flashcards/
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from llmquiz.anki.archive.limits import Limits
from llmquiz.core.card import Lang
from llmquiz.core.day import Calendar
from llmquiz.core.errors import ImportFileError
from llmquiz.deck.outline import Fence
from llmquiz.deck.reading import printable
from llmquiz.exchange import clozemarks
from llmquiz.exchange.faces import Face, TooManyGapsError, hard_breaks
from llmquiz.exchange.folder import Folder, walk
from llmquiz.exchange.gather import Draft, Findings, gather
from llmquiz.exchange.obsidianblocks import CALLOUT, Block, Kind, blocks, place
from llmquiz.exchange.pictures import Pictures, outside_code
from llmquiz.exchange.srcomment import COMMENT, CommentError, Comments
from llmquiz.exchange.textfile import opened
from llmquiz.exchange.vault import FrontMatter, Plugin, front_matter, plugin_of, tags_of, vault_of
from llmquiz.store.incoming import Incoming, IncomingPart

ORIGIN = "obsidian"
_DRAWING = ".excalidraw.md"
_BLOCK_ID = re.compile(r" \^[A-Za-z0-9-]{1,100}$", re.MULTILINE)
_TAGS_FIRST = re.compile(r"\s*(?P<tags>(?:#[^\s#]+\s+)+)")
_ITEM = re.compile(r"\s*(?:(?:[-*+>]|\d{1,9}[.)]|#{1,6})\s+)+(?:\[[ xX]\]\s+)?")
_EMBED = re.compile(r"!\[\[(?P<target>[^\[\]|\n]{1,300})(?:\|(?P<words>[^\[\]\n]{0,300}))?\]\]")
_LINK = re.compile(r"\[\[(?P<target>[^\[\]|\n]{1,300})(?:\|(?P<words>[^\[\]\n]{0,300}))?\]\]")
_BREAK = re.compile(r"<br ?/?>")


@contextmanager
def read(
    paths: Sequence[Path], limits: Limits, calendar: Calendar, *, lang: Lang | None = None, deck: str | None = None
) -> Iterator[Incoming]:
    """The cards of notes, of folders with notes, or of whole vaults, with their schedules.

    Args:
        deck: the name of the deck of all cards.

    Raises:
        ImportFileError: if there are no cards, or too many, or they cannot be read.
    """
    findings = Findings()
    scopes = [_Scope.of(path, limits, calendar, findings, deck) for path in paths]

    def drafts(found: Findings) -> Iterator[Draft]:
        for scope in scopes:
            for note in scope.notes:
                yield from _Note(scope, note).drafts(found)

    named = ", ".join(printable(str(path)) for path in paths)
    yield gather(
        ORIGIN,
        drafts,
        limits,
        lang=lang,
        media=lambda: [media for scope in scopes for media in scope.pictures.media()],
        findings=findings,
        empty=f"{named}: no card of Obsidian's spaced-repetition plugin",
    )


@dataclass(slots=True)
class _Scope:
    """What the notes below one path share; `tagged` says that notes without a flashcard tag have no cards."""

    folder: Folder
    limits: Limits
    plugin: Plugin
    pictures: Pictures
    comments: Comments
    deck: str | None
    notes: list[str] = field(default_factory=list)
    tagged: bool = True

    @classmethod
    def of(cls, path: Path, limits: Limits, calendar: Calendar, findings: Findings, deck: str | None) -> _Scope:
        vault = vault_of(path)
        folder = walk(path.absolute() if vault else path, limits, vault)
        for line in folder.findings:
            findings.take(line)
        plugin = plugin_of(vault, findings)
        scope = cls(folder, limits, plugin, Pictures(folder, limits, findings), Comments(calendar), deck)
        scope._choose(path, findings)
        return scope

    def _choose(self, path: Path, findings: Findings) -> None:
        """Which notes have cards; a note that cannot be read does not keep out the others."""
        with_tag: list[str] = []
        whole = 0
        for name in self.folder.notes:
            if name.endswith(_DRAWING):
                continue
            try:
                note = _Note(self, name)
                is_tagged, head = note.is_tagged(), note.front_matter()
            except ImportFileError as error:
                findings.take(f"{error}; left out")
                continue
            self.notes.append(name)
            with_tag += [name] if is_tagged else []
            whole += head.has_schedule
        self.tagged = bool(with_tag) and not self.plugin.folders
        if self.tagged:
            self.notes = with_tag
        elif not self.plugin.folders:
            tags = " or ".join(f"#{tag}" for tag in self.plugin.tags)
            findings.add(printable(str(path)), f"no note has the tag {tags}, so all were read; decks are the folders")
        if whole:
            findings.add(printable(str(path)), f"whole notes are no cards, so the reviews of {whole} were left out")


class _Note:
    """One file."""

    def __init__(self, scope: _Scope, name: str) -> None:
        self.name = name
        self._scope = scope
        self._file = opened(scope.folder.root / name, scope.limits)

    def front_matter(self) -> FrontMatter:
        return front_matter(self._lines())

    def is_tagged(self) -> bool:
        lines = self._lines()
        head, plugin = front_matter(lines), self._scope.plugin
        if any(plugin.deck(tag) for tag in head.tags):
            return True
        return any(plugin.deck(tag) for line in _text_lines(lines[head.lines :]) for tag in tags_of(line))

    def drafts(self, findings: Findings) -> Iterator[Draft]:
        lines = self._lines()
        head = front_matter(lines)
        found = list(blocks(lines, self._scope.plugin, head.lines))
        decks = _decks_by_line(lines, head, found, self._scope.plugin) if self._scope.tagged else []
        starts = [line for line, _ in decks]
        for block in found:
            deck = decks[max(bisect_left(starts, block.first) - 1, 0)][1] if decks else None
            draft = self._draft(block, head, deck or self._folder_deck(), findings)
            if draft:
                yield draft

    def _lines(self) -> list[str]:
        return self._file.text().split("\n")

    def _folder_deck(self) -> str:
        path = PurePosixPath(self.name)
        return "::".join(path.parent.parts) or path.stem

    def _draft(self, block: Block, head: FrontMatter, deck: str, findings: Findings) -> Draft | None:
        place = f"{self._file.name}:{block.first + 1}"
        plugin = self._scope.plugin
        source = "\n".join(line for line in block.lines if not line.startswith(CALLOUT))
        comment = COMMENT.search(source)
        text = _BLOCK_ID.sub("", COMMENT.sub("", source).rstrip().removesuffix("\n>").rstrip())
        tags, text = _own_tags(text)
        own = next((name for tag in tags if (name := plugin.deck(tag))), None) if self._scope.tagged else None
        try:
            key, faces = _faces(block.kind, text, plugin)
        except TooManyGapsError as error:
            findings.add(place, f"{error}; left out")
            return None
        if not faces:
            return None
        if not all(back.strip() for _, back in faces):
            findings.add(place, "no answer; left out")
            return None
        return Draft(
            key=f"{self.name}\x1f{key}",
            deck=self._scope.deck or own or deck,
            faces=[(self._markdown(front), self._markdown(back)) for front, back in faces],
            place=place,
            tags=[tag for tag in (*head.tags, *tags) if not plugin.deck(tag)],
            parts=self._parts(comment["entries"] if comment else "", len(faces), place, findings),
        )

    def _parts(self, entries: str, count: int, place: str, findings: Findings) -> dict[int, IncomingPart]:
        try:
            schedules = self._scope.comments.schedules(entries)
        except CommentError as error:
            findings.add(place, f"schedule {error}; the card comes in as new")
            return {}
        return {at: IncomingPart(at, schedule) for at, schedule in enumerate(schedules[:count]) if schedule}

    def _markdown(self, text: str) -> str:
        text = self._scope.pictures.shown(text.strip("\n"), self.name)
        text = outside_code(text, partial(_EMBED.sub, self._embedded), "![[")
        text = outside_code(text, partial(_LINK.sub, _link), "[[")
        text = outside_code(text, partial(_BREAK.sub, "\n"), "<br")
        return hard_breaks(text)

    def _embedded(self, match: re.Match[str]) -> str:
        target, words = match["target"].strip(), match["words"] or ""
        name = self._scope.pictures.name(target.split("#")[0], self.name, anywhere=True)
        if name is None:
            return f"[{target}]"
        return f"![{'' if words.replace('x', '').isdigit() else words}]({name})"  # words that are a size


def _faces(kind: Kind, text: str, plugin: Plugin) -> tuple[str, list[Face]]:
    """What the card is known by, and its faces."""
    if kind is Kind.CLOZE:
        return text, clozemarks.faces(text, plugin.patterns)
    if kind in (Kind.INLINE, Kind.INLINE_BOTH):
        mark = plugin.inline if kind is Kind.INLINE else plugin.both
        line = _ITEM.sub("", text, count=1) if _ITEM.match(text) else text
        at = place(line, mark)
        if at < 0:  # it stood in a tag
            return line, []
        front, back = line[:at].strip(), line[at + len(mark) :].strip()
    else:
        mark = plugin.below if kind is Kind.BELOW else plugin.below_both
        lines = text.split("\n")
        at = next((number for number, line in enumerate(lines) if line.strip() == mark), len(lines))
        front, back = "\n".join(lines[:at]).strip("\n"), "\n".join(lines[at + 1 :]).strip("\n")
    both = kind in (Kind.INLINE_BOTH, Kind.BELOW_BOTH)
    return front, [(front, back), (back, front)] if both else [(front, back)]


def _own_tags(text: str) -> tuple[list[str], str]:
    """The tags that a card starts with, which are its own, and the rest of its text."""
    match = _TAGS_FIRST.match(text)
    return (tags_of(match["tags"]), text[match.end() :]) if match else ([], text)


def _decks_by_line(
    lines: Sequence[str], head: FrontMatter, found: Sequence[Block], plugin: Plugin
) -> list[tuple[int, str]]:
    """The deck from each line on, counted from 0; a tag within a card is the card's own."""
    decks = [(-1, name) for tag in head.tags if (name := plugin.deck(tag))][:1]
    within = {number for block in found for number in range(block.first, block.first + len(block.lines))}
    own: list[tuple[int, str]] = []
    for number, line in enumerate(_text_lines(lines[head.lines :]), start=head.lines):
        name = next((name for tag in tags_of(line) if (name := plugin.deck(tag))), None)
        if name:
            (own if number in within else decks).append((number, name))
    return decks or own[:1]


def _text_lines(lines: Sequence[str]) -> Iterator[str]:
    """The lines, those of fenced code as empty ones."""
    fence = Fence()
    for line in lines:
        yield "" if fence.holds(line) else line


def _link(match: re.Match[str]) -> str:
    """A link to a note as its words: there is no such note here."""
    return (match["words"] or match["target"]).strip()
