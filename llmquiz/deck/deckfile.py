"""One deck file, read on its own: its title, and a draft of each card that the other language may complete."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from llmquiz.core.card import CardText, Check, Choice, Lang
from llmquiz.core.errors import Place
from llmquiz.deck import attributes, parts, reading
from llmquiz.deck.attributes import Attributes, AttributesError
from llmquiz.deck.finding import Finding
from llmquiz.deck.outline import Block, first_paragraph, joined, outline
from llmquiz.deck.parts import Part

MAX_FINDINGS = 1_000
MAX_CARDS = 20_000


@dataclass(frozen=True, slots=True)
class Draft:
    """A card as one file has it."""

    attributes: Attributes
    text: CardText
    line: int
    present: frozenset[Part]
    follow_ups: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The card's id; drafts without one are never made."""
        return self.attributes.id or ""


@dataclass(slots=True)
class DeckFile:
    """A file of a deck, and what is wrong with it."""

    path: Path
    lang: Lang
    title: str = ""
    intro: str = ""
    head: Attributes = field(default_factory=Attributes)
    drafts: list[Draft] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def report(self, line: int, problem: str, rule: str = "F02") -> None:
        """Notes a problem of this file; a file that is no deck at all has one on every line."""
        if len(self.findings) < MAX_FINDINGS:
            line_of_text = " ".join(problem.split())  # what it quotes may have gone on over several
            self.findings.append(Finding(Place(self.path, line), rule, line_of_text))


def read_file(path: Path, lang: Lang) -> DeckFile:
    """The file at `path`; its findings say what could not be read."""
    text, findings = reading.read(path)
    if text is None:
        return DeckFile(path, lang, findings=findings)
    return _read_checked(text, path, lang)


def read_text(text: str, path: Path, lang: Lang) -> DeckFile:
    """The same for a text in memory; `path` is what messages say."""
    if findings := reading.problems_of(text, path):
        return DeckFile(path, lang, findings=findings)
    return _read_checked(text, path, lang)


def _read_checked(text: str, path: Path, lang: Lang) -> DeckFile:
    file = DeckFile(path, lang)
    blocks, unclosed = outline(text)
    if unclosed is not None:
        file.report(unclosed, "fenced code is never closed; end it with the same fence on a line of its own")
    _read_head(file, blocks)
    cards = _cards(file, blocks)
    if len(cards) > MAX_CARDS:
        file.report(cards[MAX_CARDS][0].line, f"{len(cards):,} cards; at most {MAX_CARDS:,}: split the deck")
    for first, rest in cards[:MAX_CARDS]:
        _read_card(file, first, rest)
    _check_ids(file)
    return file


def _read_head(file: DeckFile, blocks: list[Block]) -> None:
    if (early := next(((n, line) for n, line in blocks[0].numbered() if line.strip()), None)) is not None:
        file.report(early[0], "text before the title; start the file with '# Title'")
    titles = [block for block in blocks if block.level == 1]
    if not titles or blocks[1].level != 1:
        file.report(blocks[1].line if len(blocks) > 1 else 1, "no title; start the file with '# Title'")
        return
    for block in titles[1:]:
        file.report(block.line, "second title; a deck has one '# Title', a card starts with '## '")
    file.title, source = attributes.split_title(titles[0].heading)
    file.intro = joined(titles[0].lines)
    file.head = _attributes(file, titles[0].line, source or "")
    if not file.title:
        file.report(titles[0].line, "empty title; write '# Title'")


def _cards(file: DeckFile, blocks: list[Block]) -> list[tuple[Block, list[Block]]]:
    """The level-2 blocks, each with the level-3 blocks below it."""
    cards: list[tuple[Block, list[Block]]] = []
    for block in blocks:
        if block.level == 2:
            cards.append((block, []))
        elif block.level == 3 and cards:
            cards[-1][1].append(block)
        elif block.level == 3:
            file.report(block.line, f"part '{block.heading[:40]}' before the first card; a card starts with '## '")
    return cards


def _read_card(file: DeckFile, first: Block, rest: list[Block]) -> None:
    front, source = attributes.split_card(first.heading)
    if source is None:
        file.report(first.line, "card without an id; end its heading with {#lower-case-id topic=…}")
        return
    named = _attributes(file, first.line, source)
    if named.id is None:
        file.report(first.line, "card without an id; write it first: {#lower-case-id topic=…}")
        return
    if problem := attributes.id_problem(named.id):
        file.report(first.line, problem)
    if not front:
        file.report(first.line, f"card '{named.id}' asks nothing; write the question before its attributes")
    file.drafts.append(_draft(file, named, front, first, _parts(file, rest)))


def _draft(file: DeckFile, named: Attributes, front: str, first: Block, found: dict[Part, Block]) -> Draft:
    answer, detail = first_paragraph(first.lines)
    if not answer:
        file.report(first.line, f"card '{named.id}' has no answer; write a paragraph below its heading")
    text = CardText(
        front=front,
        answer=answer,
        detail=detail,
        key_points=_texts(file, found.get(Part.KEY_POINTS)),
        pitfall=joined(found[Part.PITFALL].lines) if Part.PITFALL in found else "",
        choices=_choices(file, found.get(Part.CHOICES)),
        symbols=_texts(file, found.get(Part.SYMBOLS)),
        place=Place(file.path, first.line),
    )
    return Draft(
        attributes=named,
        text=text,
        line=first.line,
        present=frozenset(found),
        follow_ups=_texts(file, found.get(Part.FOLLOW_UPS)),
        checks=parts.checks(found[Part.CHECKS], file.report) if Part.CHECKS in found else (),
        sources=_texts(file, found.get(Part.SOURCES)),
    )


def _parts(file: DeckFile, blocks: list[Block]) -> dict[Part, Block]:
    found: dict[Part, Block] = {}
    for block in blocks:
        part = parts.part_of(block.heading)
        if part is None:
            file.report(block.line, f"unknown part '{block.heading[:40]}'; known are {parts.known()}")
        elif part in found:
            file.report(block.line, f"part '{block.heading}' is there twice; join them")
        else:
            found[part] = block
            if not joined(block.lines):
                file.report(block.line, f"part '{block.heading}' is empty; fill it or delete its heading")
    return found


def _texts(file: DeckFile, block: Block | None) -> tuple[str, ...]:
    return tuple(text for _, text in parts.items(block, file.report)) if block else ()


def _choices(file: DeckFile, block: Block | None) -> tuple[Choice, ...]:
    return parts.choices(block, file.report) if block else ()


def _attributes(file: DeckFile, line: int, source: str) -> Attributes:
    try:
        return attributes.parse(source)
    except AttributesError as error:
        file.report(line, str(error))
        return Attributes(id=_salvaged_id(source))


def _salvaged_id(source: str) -> str | None:
    """The id alone, so that a slip in the attributes after it does not also read as a card missing from the pair."""
    word = source.split(maxsplit=1)[0] if source.strip() else ""
    return word[1:] if word.startswith("#") and len(word) > 1 else None


def _check_ids(file: DeckFile) -> None:
    seen: dict[str, int] = {}
    for draft in file.drafts:
        if draft.id in seen:
            file.report(draft.line, f"card '{draft.id}' is also on line {seen[draft.id]}; an id is used once")
        seen.setdefault(draft.id, draft.line)
