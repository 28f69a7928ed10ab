"""A deck from its files: the two languages are read apart and joined card by card.

English carries the attributes (Chinese, where it is the only language); the other repeats only the ids, in the same
order. Everything that is wrong is collected, so that an author sees it at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from llmquiz.core.card import Card, Deck, Frequency, Kind, LabLink, Lang, Level
from llmquiz.core.errors import Place
from llmquiz.deck import attributes, deckfile
from llmquiz.deck.cloze import ClozeError, deletions
from llmquiz.deck.deckfile import DeckFile, Draft
from llmquiz.deck.finding import Finding, errors
from llmquiz.deck.parts import ENGLISH_ONLY, Part

_KNOWN = ("topic", "level", "frequency", "kind", "lab", "metric", "tags", "as-of")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_WORD = re.compile(r"[\w.-]+")
E_ = TypeVar("E_", bound=StrEnum)


def parse_pair(paths: Mapping[Lang, Path], *, builtin: bool = True) -> Deck:
    """The deck of `paths`, a file for each language.

    Raises:
        DeckError: the first thing that is wrong with it.
    """
    return _raised(*parse_deck(paths, builtin=builtin))


def parse_deck(paths: Mapping[Lang, Path], *, builtin: bool = True) -> tuple[Deck | None, list[Finding]]:
    """The deck of `paths`, or None; and everything that is wrong with it. None exactly if there is an error."""
    return _joined([deckfile.read_file(paths[lang], lang) for lang in Lang if lang in paths], builtin)


def parse_text(text: str, path: Path, lang: Lang, *, builtin: bool = False) -> Deck:
    """A deck of one language from a text in memory; `path` gives its name and stands in messages.

    Raises:
        DeckError: the first thing that is wrong with it.
    """
    return parse_texts({lang: text}, {lang: path}, builtin=builtin)


def parse_texts(texts: Mapping[Lang, str], paths: Mapping[Lang, Path], *, builtin: bool = False) -> Deck:
    """A deck from a text for each language.

    Raises:
        DeckError: the first thing that is wrong with it.
    """
    files = [deckfile.read_text(texts[lang], paths[lang], lang) for lang in Lang if lang in texts]
    return _raised(*_joined(files, builtin))


def deck_id(path: Path) -> str:
    """The id of the deck that a file belongs to: its name without language and ending."""
    return path.name.split(".", 1)[0]


def _raised(deck: Deck | None, findings: Sequence[Finding]) -> Deck:
    if deck is None:
        raise errors(list(findings))[0].error()
    return deck


def _joined(files: list[DeckFile], builtin: bool) -> tuple[Deck | None, list[Finding]]:
    first, others = files[0], files[1:]
    name = deck_id(first.path)
    position = _position(first)
    for other in others:
        if other.head.values:
            other.report(1, f"attributes of the title belong in {first.path.name} only; delete them here")
        _match(first, other)
    by_id = [(other, {draft.id: draft for draft in other.drafts}) for other in others]
    cards = [
        _card(name, first, draft, [(other, drafts[draft.id]) for other, drafts in by_id if draft.id in drafts])
        for draft in first.drafts
    ]
    findings = [finding for file in files for finding in file.findings]
    if errors(findings):
        return None, findings
    deck = Deck(
        id=name,
        titles={file.lang: file.title for file in files},
        cards=tuple(cards),
        intros={file.lang: file.intro for file in files if file.intro},
        position=position,
        builtin=builtin,
    )
    return deck, findings


def _position(file: DeckFile) -> int:
    for key in file.head.values.keys() - {"order"}:
        file.report(1, f"unknown attribute '{key[:40]}' of the title; known is order=<number>")
    if file.head.id:
        file.report(1, "a title has no id; the deck is called as its file")
    order = file.head.values.get("order", "0")
    if not re.fullmatch(r"[0-9]{1,6}", order):
        file.report(1, f"order '{order[:20]}' is not a whole number; write order=20")
        return 0
    return int(order)


def _match(first: DeckFile, other: DeckFile) -> None:
    """Reports cards that only one file has, or that stand in another order, and what belongs in the first file only."""
    if not (first.title and other.title):
        return  # a file that could not be read has no cards to compare
    ours, theirs = {draft.id for draft in first.drafts}, {draft.id for draft in other.drafts}
    for draft in first.drafts:
        if draft.id not in theirs:
            first.report(draft.line, f"card '{draft.id}' is not in {other.path.name}; translate it there", "F03")
    for draft in other.drafts:
        if draft.id not in ours:
            other.report(
                draft.line, f"card '{draft.id}' is not in {first.path.name}; add it there or mend the id", "F03"
            )
        if draft.attributes.values:
            other.report(
                draft.line, f"attributes of '{draft.id}' belong in {first.path.name}; leave {{#{draft.id}}} here"
            )
        for part in ENGLISH_ONLY:
            if part in draft.present:
                other.report(
                    draft.line, f"'{part.value}' of '{draft.id}' belongs in {first.path.name} only; delete it here"
                )
    _match_order(first, other, ours & theirs)


def _match_order(first: DeckFile, other: DeckFile, shared: set[str]) -> None:
    pairs = zip(
        (draft for draft in first.drafts if draft.id in shared),
        (draft for draft in other.drafts if draft.id in shared),
        strict=False,
    )
    for ours, theirs in pairs:
        if ours.id != theirs.id:
            problem = f"card '{theirs.id}' stands where {first.path.name} has '{ours.id}'; keep the same order"
            other.report(theirs.line, problem, "F03")
            return


def _card(deck: str, file: DeckFile, draft: Draft, twins: list[tuple[DeckFile, Draft]]) -> Card:
    kind = _kind(file, draft)
    for owner, text in [(file, draft), *twins]:
        _check_kind(owner, text, kind)
    if kind is Kind.CLOZE:
        _check_same_deletions(draft, twins)
    values = draft.attributes.values
    for key in values:
        if key not in _KNOWN and not (key.startswith("lab.") and len(key) > 4):
            file.report(
                draft.line, f"unknown attribute '{key[:40]}'; known are #id, {', '.join(_KNOWN)} and lab.<parameter>"
            )
    return Card(
        id=draft.id,
        deck=deck,
        topic=_topic(file, draft),
        kind=kind,
        level=_enum(file, draft, "level", Level, Level.L1),
        frequency=_enum(file, draft, "frequency", Frequency, Frequency.MEDIUM),
        texts={file.lang: draft.text} | {owner.lang: twin.text for owner, twin in twins},
        tags=tuple(values.get("tags", "").split()),
        lab=_lab(file, draft, kind),
        follow_ups=draft.follow_ups,
        sources=draft.sources,
        checks=draft.checks,
        as_of=_as_of(file, draft),
    )


def _topic(file: DeckFile, draft: Draft) -> str:
    topic = draft.attributes.values.get("topic", "")
    if not topic:
        file.report(draft.line, f"card '{draft.id}' has no topic; add topic=<slug>")
    elif attributes.id_problem(topic):
        file.report(draft.line, f"topic '{topic[:40]}' is not lower-case words joined by hyphens")
    return topic


def _enum(file: DeckFile, draft: Draft, key: str, kind: type[E_], default: E_) -> E_:
    value = draft.attributes.values.get(key, default.value)
    try:
        return kind(value)
    except ValueError:
        file.report(draft.line, f"{key} '{value[:40]}' is not one of {', '.join(kind)}")
        return default


def _kind(file: DeckFile, draft: Draft) -> Kind:
    kind = _enum(file, draft, "kind", Kind, Kind.OPEN)
    if kind is not Kind.NOTE:
        return kind
    file.report(draft.line, "kind 'note' is for cards from other programs; choose open, cloze, choice or predict")
    return Kind.OPEN


def _lab(file: DeckFile, draft: Draft, kind: Kind) -> LabLink | None:
    values = draft.attributes.values
    params = {key.removeprefix("lab."): value for key, value in values.items() if key.startswith("lab.")}
    lab, metric = values.get("lab"), values.get("metric")
    if kind is Kind.PREDICT and not (lab and metric):
        file.report(draft.line, f"predict card '{draft.id}' needs lab=<name> and metric=<name>")
    if metric is not None and kind is not Kind.PREDICT:
        file.report(draft.line, "metric is for cards with kind=predict; delete it or change the kind")
    if lab is None and params:
        file.report(draft.line, "lab.<parameter> without lab=<name>; name the lab")
    for name in (lab, metric):
        if name is not None and not _WORD.fullmatch(name):
            file.report(draft.line, f"'{name[:40]}' is not the name of a lab or a metric")
    return LabLink(lab, params, metric) if lab else None


def _as_of(file: DeckFile, draft: Draft) -> date | None:
    value = draft.attributes.values.get("as-of")
    if value is None:
        return None
    try:
        if _DATE.fullmatch(value):
            return date.fromisoformat(value)
    except ValueError:
        pass
    file.report(draft.line, f"as-of '{value[:20]}' is not a date; write it as 2026-11-22")
    return None


def _check_kind(file: DeckFile, draft: Draft, kind: Kind) -> None:
    if kind is Kind.CHOICE and Part.CHOICES not in draft.present:
        file.report(draft.line, f"choice card '{draft.id}' has no options; add the part 'Choices'", "F04")
    if kind is not Kind.CHOICE and Part.CHOICES in draft.present:
        file.report(draft.line, f"card '{draft.id}' has options but kind={kind}; write kind=choice", "F04")
    text = draft.text
    if kind is not Kind.CLOZE:
        if "{{c1::" in text.answer:
            file.report(draft.line, f"card '{draft.id}' has deletions but kind={kind}; write kind=cloze", "F04")
        return
    if "{{c" in text.detail or "{{c" in text.front:
        file.report(draft.line, f"card '{draft.id}' has deletions outside its first paragraph; move them there", "F04")
    try:
        if not deletions(text.answer) and text.answer:
            file.report(
                draft.line,
                f"cloze card '{draft.id}' hides nothing; write {{{{c1::text}}}} in its first paragraph",
                "F04",
            )
    except ClozeError as error:
        file.report(draft.line, str(error), "F04")


def _check_same_deletions(draft: Draft, twins: list[tuple[DeckFile, Draft]]) -> None:
    try:
        numbers = {it.index for it in deletions(draft.text.answer)}
        for owner, twin in twins:
            others = {it.index for it in deletions(twin.text.answer)}
            if others != numbers:
                problem = f"deletions of '{draft.id}' are {sorted(others)} here and {sorted(numbers)} in the other file"
                owner.report(twin.line, f"{problem}; use the same numbers", "F04")
    except ClozeError:
        return  # reported where it stands


def place_of(card: Card, lang: Lang | None = None) -> Place:
    """Where a card that was read from a file stands."""
    text = card.text(lang) if lang else next(iter(card.texts.values()))
    return text.place or Place(Path(f"{card.deck}.md"), 1)
