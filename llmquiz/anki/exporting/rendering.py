"""The cards of an export as notes, in their order; many of them are shared with a second process.

Whoever is free takes the next some dozens of cards. This process never waits for the other: should that not start, or
die, or have no core of its own, its cards are done here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

from llmquiz.anki.exporting import note
from llmquiz.anki.exporting.worker import Worker, WorkerError, cores
from llmquiz.core.card import Card, Lang
from llmquiz.store.codec import decode_card

FIELD_END = "\x1f"
WORTH_A_PROCESS = 3_000
"""Cards from which on a second process saves more time than it takes to start."""
_CHUNK = 50
"""Cards that are done together, in some milliseconds."""
_WAITING, _AHEAD = 4, 32
"""Chunks that wait for the second process, and that are read before the oldest one is done."""

Carried = TypeVar("Carried")


class Rendered(NamedTuple):
    """A card of our own as a note, in the form in which its row is written.

    Attributes:
        card: its id.
        type: id of the note type.
        tags: parted by spaces.
        fields: HTML, parted by `FIELD_END`.
        measured_at: when the evidence in the note was last added to, Unix seconds; 0 if it has none.
    """

    card: str
    guid: str
    type: int
    tags: str
    fields: str
    measured_at: int


class Task(NamedTuple):
    """Contents of cards as the store has them, each with the HTML of its evidence and when that was measured."""

    contents: Sequence[str]
    evidence: Sequence[tuple[str, int]]
    langs: Sequence[Lang]


@dataclass(slots=True)
class _Chunk(Generic[Carried]):
    """Some cards with what the caller carries along; `notes` is None until they are done."""

    cards: Sequence[tuple[str | None, Carried]]
    task: Task
    notes: Sequence[Rendered] | None = None


def rendered(
    cards: Iterable[tuple[str | None, Carried]],
    langs: Sequence[Lang],
    evidence: Callable[[Card], tuple[str, int]],
    *,
    count: int,
) -> Iterator[tuple[Rendered | None, Carried]]:
    """Each card as a note, with what the caller carries along; in the order of `cards`, which are read ahead.

    Args:
        cards: the content of a card as the store has it, of any kind but `Kind.NOTE`; None has no note and is handed
            back as it came.
        evidence: HTML for a card's back, and when that was last added to, see `llmquiz.anki.exporting.evidence`.
        count: about how many cards there are.
    """
    cards = iter(cards)
    chunks = (_chunk(some, langs, evidence) for some in iter(lambda: list(islice(cards, _CHUNK)), []))
    for chunk in _shared(chunks) if count >= WORTH_A_PROCESS and cores() > 1 else map(_alone, chunks):
        notes = iter(chunk.notes or ())
        for content, carried in chunk.cards:
            yield None if content is None else next(notes), carried


def render(task: Task) -> list[Rendered]:
    """The notes of some cards."""
    cards = list(map(decode_card, task.contents))
    notes = note.to_notes(cards, task.langs, [html for html, _ in task.evidence])
    return [
        Rendered(card.id, made.guid, made.type.id, " ".join(made.tags), FIELD_END.join(made.fields), measured_at)
        for card, made, (_, measured_at) in zip(cards, notes, task.evidence, strict=True)
    ]


def _chunk(
    cards: Sequence[tuple[str | None, Carried]], langs: Sequence[Lang], evidence: Callable[[Card], tuple[str, int]]
) -> _Chunk[Carried]:
    contents = [content for content, _ in cards if content is not None]
    found = [evidence(decode_card(content)) if '"lab"' in content else ("", 0) for content in contents]
    return _Chunk(cards, Task(contents, found, langs))


def _alone(chunk: _Chunk[Carried]) -> _Chunk[Carried]:
    if chunk.notes is None:
        chunk.notes = render(chunk.task)
    return chunk


def _shared(chunks: Iterator[_Chunk[Carried]]) -> Iterator[_Chunk[Carried]]:
    """All of `chunks`, done here or by the second process."""
    read: deque[_Chunk[Carried]] = deque()
    try:
        with closing(Worker(render)) as worker:
            yield from _balanced(chunks, read, worker)
    except WorkerError:
        yield from map(_alone, read)
        yield from map(_alone, chunks)


def _balanced(
    chunks: Iterator[_Chunk[Carried]], read: deque[_Chunk[Carried]], worker: Worker[Task, list[Rendered]]
) -> Iterator[_Chunk[Carried]]:
    """As `_shared`; after a WorkerError, `read` holds what is to be yielded before the rest of `chunks`."""
    given: deque[_Chunk[Carried]] = deque()
    while True:
        while given and worker.ready():
            given.popleft().notes = worker.take()
        while len(given) < _WAITING and len(read) < _AHEAD and (chunk := next(chunks, None)):
            read.append(chunk)
            worker.give(chunk.task)
            given.append(chunk)
        if read and read[0].notes is not None:
            yield read.popleft()
        elif len(read) < _AHEAD and (chunk := next(chunks, None)):
            read.append(_alone(chunk))
        elif read:
            _alone(next(chunk for chunk in reversed(read) if chunk.notes is None))
        else:
            return
