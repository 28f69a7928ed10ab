"""From the cards of text files to an `Incoming`: stable ids, decks, duplicates, and text that is safe to show.

The files are read twice, once to count and to check, once to hand over: the store asks for the decks before the notes,
and a library need not fit into the memory. What an id is made of decides what an edit costs: whatever is part of the
key cannot be changed without losing the card's progress.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from llmquiz.anki.archive.limits import Limits
from llmquiz.anki.importing.naming import headline, language, safe, title
from llmquiz.core.card import Card, CardText, Frequency, Kind, Lang, Level, NoteFace
from llmquiz.core.errors import ImportFileError
from llmquiz.exchange.neutral import harmless
from llmquiz.exchange.textfile import KIB
from llmquiz.notes.neutral import neutral
from llmquiz.store.incoming import Incoming, IncomingDeck, IncomingMedia, IncomingNote, IncomingPart

Face = tuple[str, str]
_SIMPLE_NAME = re.compile(r"[a-z0-9]+(?:[ _-][a-z0-9]+)*")
_NOT_SLUG = re.compile(r"[^a-z0-9]+")
_LONGEST_SLUG = 60
_MOST_TAGS, _LONGEST_TAG = 100, 100
_MOST_FINDINGS = 200
_HEAD = 2000  # characters that are looked at for a note's headline and language


@dataclass(slots=True)
class Findings:
    """What cannot be carried over, a line each; of very many only the first ones."""

    lines: list[str] = field(default_factory=list)
    more: int = 0

    def add(self, place: str, problem: str) -> None:
        """Note a problem; `place` is ``file:line``."""
        self.take(f"{place}: {problem}")

    def take(self, line: str) -> None:
        """Note a problem that says itself where it is, once."""
        line = safe(line)
        if line in self.lines:
            return
        if len(self.lines) < _MOST_FINDINGS:
            self.lines.append(line)
        else:
            self.more += 1

    def all(self) -> list[str]:
        """The lines, and how many were not kept."""
        return [*self.lines, f"and {self.more} more"] if self.more else list(self.lines)


@dataclass(frozen=True, slots=True)
class Draft:
    """A card of a text file.

    Attributes:
        key: what its id is made from, unique within the import.
        deck: its deck's name, levels joined by ``::``.
        faces: front and back of each, as Markdown that is not yet safe.
        place: ``file:line``.
        parts: progress by the number of the face; others are new.
    """

    key: str
    deck: str
    faces: Sequence[Face]
    place: str
    tags: Sequence[str] = ()
    parts: Mapping[int, IncomingPart] = field(default_factory=dict)


def gather(
    origin: str,
    read: Callable[[Findings], Iterable[Draft]],
    limits: Limits,
    *,
    lang: Lang | None = None,
    media: Callable[[], Sequence[IncomingMedia]] = tuple,
    findings: Findings,
    empty: str,
) -> Incoming:
    """What `read` yields, as an `Incoming`.

    Args:
        origin: ``csv``, ``hashcards`` or ``obsidian``; ids start with it.
        read: reads the cards from the start, each time that it is called; adds to what it is given.
        lang: of the text; None has each card decide.
        media: the files that the cards show; called when all cards are read.
        findings: what was found before.
        empty: the error if there are no cards.

    Raises:
        ImportFileError: if there are too many cards, or none.
    """
    names: dict[str, None] = {}
    count = 0
    for draft, _ in _unique(read(findings), findings, limits):
        names.setdefault(draft.deck)
        count += 1
        if count > limits.notes:
            raise ImportFileError(f"more than {limits.notes:,} cards; split the import, or raise notes in [limits]")
    if not count:
        raise ImportFileError(f"{empty}; {findings.lines[0]}" if findings.lines else empty)
    decks = {name: deck_id(origin, name) for name in names}
    by_id = {found: name for name, found in reversed(decks.items())}
    return Incoming(
        origin=origin,
        decks=[IncomingDeck(found, {lang or language(name): title(name)}) for found, name in by_id.items()][::-1],
        notes=_notes(origin, lambda: _unique(read(Findings()), Findings(), limits), decks, lang),
        num_notes=count,
        media=media(),
        findings=findings.all(),
    )


def deck_id(origin: str, name: str) -> str:
    """The id of the deck `name`; what letters of ASCII cannot tell apart gets a few digits of a hash."""
    words = _NOT_SLUG.sub("-", name.lower()).strip("-")
    if not _SIMPLE_NAME.fullmatch(name.lower()) or len(words) > _LONGEST_SLUG:
        digits = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=3).hexdigest()
        words = f"{words[:_LONGEST_SLUG].strip('-')}-{digits}".strip("-")
    return f"{origin}-{words}"


def card_id(origin: str, key: str) -> str:
    """The id of the card with that key."""
    return f"{origin}-{blake2b(key.encode('utf-8', 'surrogatepass'), digest_size=8).hexdigest()}"


def _unique(drafts: Iterable[Draft], findings: Findings, limits: Limits) -> Iterator[tuple[Draft, Sequence[Face]]]:
    """The drafts that become cards, each with its faces made safe."""
    seen: dict[str, str] = {}
    cleaned = 0
    longest = limits.field_kb * KIB
    for draft in drafts:
        if sum(len(front) + len(back) for front, back in draft.faces) > longest * 4:
            findings.add(draft.place, f"card of more than {4 * longest:,} characters in all; left out")
            continue
        faces = [(harmless(front).strip(), harmless(back).strip()) for front, back in draft.faces]
        if not all(front for front, _ in faces):
            findings.add(draft.place, "no question; left out")
            continue
        if first := seen.get(draft.key):
            findings.add(draft.place, f"the same question as {first}; left out")
            continue
        seen[draft.key] = draft.place
        cleaned += any(neutral(text) != text for face in draft.faces for text in face)
        yield draft, faces
    if cleaned:
        findings.take(f"control characters were taken out of {cleaned} card{'s' * (cleaned > 1)}")


def _notes(
    origin: str,
    read: Callable[[], Iterator[tuple[Draft, Sequence[Face]]]],
    decks: Mapping[str, str],
    lang: Lang | None,
) -> Iterator[IncomingNote]:
    positions: Counter[str] = Counter()
    for draft, faces in read():
        deck = decks.get(draft.deck)
        if deck is None:
            raise ImportFileError(f"{draft.place}: has changed while it was read; start again")
        card = _card(origin, draft, faces, deck, lang)
        parts = [draft.parts.get(number) or IncomingPart(number) for number in range(len(faces))]
        yield IncomingNote(card, positions[deck], parts)
        positions[deck] += 1


def _card(origin: str, draft: Draft, faces: Sequence[Face], deck: str, lang: Lang | None) -> Card:
    front, back = faces[0]
    text = CardText(
        front=headline(front[:_HEAD]) or front[:_HEAD],
        answer="",
        faces=tuple(NoteFace(number, *face) for number, face in enumerate(faces)),
    )
    return Card(
        id=card_id(origin, draft.key),
        deck=deck,
        topic=deck,
        kind=Kind.NOTE,
        level=Level.L1,
        frequency=Frequency.MEDIUM,
        texts={lang or language(front[:_HEAD] + back[:_HEAD]): text},
        tags=_tags(draft.tags),
    )


def _tags(names: Iterable[str]) -> tuple[str, ...]:
    tags = ("-".join(safe(name).strip("#").split())[:_LONGEST_TAG] for name in names)
    return tuple(list(dict.fromkeys(tag for tag in tags if tag))[:_MOST_TAGS])
