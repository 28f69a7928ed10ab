"""The library as Markdown: every deck as deck files, and the history of its cards, to be read without any program.

Cards that no deck has any more lie in a folder of their own: in the deck's files they would come back to life.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from urllib.parse import unquote

from llmquiz import target
from llmquiz.core.card import Card
from llmquiz.core.day import Calendar
from llmquiz.exchange import historymarkdown as history
from llmquiz.exchange import libraryfiles
from llmquiz.exchange.chosen import StoredDeck, chosen_decks, marks
from llmquiz.exchange.deckwriting import write_deck
from llmquiz.exchange.historymarkdown import Past
from llmquiz.exchange.libraryjson import snapshot
from llmquiz.exchange.opencard import one_line, slug
from llmquiz.store import Store
from llmquiz.store.database import explained

Progress = Callable[[int], None]
_LINK = re.compile(r"\]\(([^()\s]+)\)|\[sound:([^\]]+)\]")
_README = """# llmquiz library

Cards and what was learned of them, as plain text.

- `<deck>.en.md`, `<deck>.zh.md`: the cards of a deck, in English and in Chinese. llmquiz reads these files again.
- `history/<deck>.md`: when each card was answered, how, and when it was due next; experiments and guesses.
- `history/_labs.md`: experiments that were started from no card.
- `archived/`: cards that their deck no longer had. `media/`: pictures and sounds that cards name.

Intervals are days (d), or the minutes of a learning step. Stability is the time after which recall falls to 90%.

卡片与学习记录，纯文本。`<deck>.en.md`、`<deck>.zh.md` 是卡组；`history/` 是每张卡片的作答、实验与预测；
`archived/` 是已移出卡组的卡片；`media/` 是图片与声音。
"""


@dataclass(slots=True)
class MarkdownReport:
    """What was written, how many of each; bytes in all; and what the format could not hold, a line each."""

    counts: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    findings: list[str] = field(default_factory=list)


def count(connection: sqlite3.Connection) -> int:
    """Cards of all decks, for a progress bar."""
    number: int = connection.execute("SELECT count(*) FROM card").fetchone()[0]
    return number


def export(
    store: Store,
    decks: Sequence[str],
    out: Path,
    *,
    calendar: Calendar | None = None,
    media: Path | None = None,
    progress: Progress | None = None,
) -> MarkdownReport:
    """Write `decks` (all of them, archived ones too, if empty) to files in the new folder `out`.

    Args:
        media: where the media of notes lie; those that the cards name are copied.
        progress: gets the number of cards written so far.

    Raises:
        UsageError: if one of `decks` does not exist.
        ExportError: if `out` holds anything or cannot be written; then nothing is there.
    """
    with explained(store.path), snapshot(store.connection):
        wanted = chosen_decks(store.connection, decks)
        with target.new_folder(out) as folder:
            writer = _Writer(store, folder, calendar or Calendar(), progress or (lambda done: None))
            writer.decks(wanted)
            if not decks:
                writer.labs()
            if media:
                writer.media(media)
            (folder / "README.md").write_text(_README, encoding="utf-8", newline="\n")
            writer.report.bytes = target.size(folder)
    return writer.report


class _Writer:
    def __init__(self, store: Store, folder: Path, calendar: Calendar, progress: Progress) -> None:
        self.report = MarkdownReport(dict.fromkeys(("decks", "cards", "reviews", "runs", "predictions", "media"), 0))
        self._connection, self._faces = store.connection, store.faces
        self._folder, self._calendar, self._progress = folder, calendar, progress
        self._named: set[str] = set()

    def decks(self, decks: Sequence[StoredDeck]) -> None:
        reviews = _by_deck(self._reviews([deck.id for deck in decks]))
        for deck in decks:
            present, archived = self._cards(deck)
            if present:
                write_deck(self._folder, deck, present, self.report.findings)
            if archived:
                (self._folder / "archived").mkdir(exist_ok=True)
                write_deck(self._folder / "archived", deck, archived, self.report.findings)
            self._history(deck, [*present, *archived], reviews(deck.id))
            counts = self.report.counts
            counts["decks"] += 1
            counts["cards"] += len(present) + len(archived)
            self._progress(counts["cards"])

    def labs(self) -> None:
        """Runs that belong to no card."""
        runs = self._connection.execute(
            f"SELECT {history.RUN} FROM run WHERE card IS NULL OR card NOT IN (SELECT id FROM card) ORDER BY id"
        ).fetchall()
        if runs:
            self._write_history("_labs", "Experiments", history.runs_table(runs, self._calendar))
            self.report.counts["runs"] += len(runs)

    def media(self, source: Path) -> None:
        known = [row[0] for row in self._connection.execute("SELECT name FROM media ORDER BY name")]
        names = [name for name in known if name in self._named]
        for file in libraryfiles.media_files(source, names, self.report.findings):
            (self._folder / "media").mkdir(exist_ok=True)
            shutil.copyfile(file.path, self._folder / "media" / file.name)
            self.report.counts["media"] += 1

    def _cards(self, deck: StoredDeck) -> tuple[list[Card], list[Card]]:
        """The cards that the deck has, and those that it had; notes what media they name."""
        present, archived = list[Card](), list[Card]()
        for content, gone in self._connection.execute(
            "SELECT content, archived_at IS NOT NULL FROM card WHERE deck = ? ORDER BY position, id", (deck.id,)
        ):
            card = self._faces.card(content)
            (archived if gone else present).append(card)
            for side in (it for text in card.texts.values() for face in text.faces for it in (face.front, face.back)):
                self._named |= {unquote(found[1] or found[2]) for found in _LINK.finditer(side)}
        return present, archived

    def _history(self, deck: StoredDeck, cards: Sequence[Card], reviews: Sequence[history.Row]) -> None:
        pasts = {card.id: Past() for card in cards}
        for card, *row in self._select(f"SELECT card, {history.SCHEDULE} FROM schedule", deck, "ordinal"):
            pasts[card].schedules.append(tuple(row))
        for _, card, schedule, *row in reviews:
            pasts[card].reviews.setdefault(schedule, []).append(tuple(row))
        for card, *row in self._select(f"SELECT card, {history.RUN} FROM run", deck, "id"):
            pasts[card].runs.append(tuple(row))
        for card, *row in self._select(f"SELECT card, {history.PREDICTION} FROM prediction", deck, "id"):
            pasts[card].predictions.append(tuple(row))
        lines = (line for card in cards for line in history.card_history(card, pasts[card.id], self._calendar))
        title = one_line(next(iter(deck.titles.values()), deck.id))
        self._write_history(slug(deck.id, "deck"), f"{title}: history", lines)
        counts = self.report.counts
        counts["reviews"] += len(reviews)
        counts["runs"] += sum(len(past.runs) for past in pasts.values())
        counts["predictions"] += sum(len(past.predictions) for past in pasts.values())

    def _write_history(self, name: str, title: str, lines: Iterator[str]) -> None:
        first = next(lines, None)
        if first is None:
            return
        place = self._folder / "history" / f"{name}.md"
        place.parent.mkdir(exist_ok=True)
        with place.open("w", encoding="utf-8", newline="\n") as file:
            file.write(f"# {title}\n\n{first}\n")
            file.writelines(f"{line}\n" for line in lines)

    def _select(self, sql: str, deck: StoredDeck, order: str) -> Iterator[history.Row]:
        where = "WHERE card IN (SELECT id FROM card WHERE deck = ?)"
        return self._connection.execute(f"{sql} {where} ORDER BY {order}", (deck.id,))

    def _reviews(self, decks: Sequence[str]) -> Iterator[history.Row]:
        """All answers in one pass, since the log has no index by card: those of a deck together, in its place."""
        return self._connection.execute(
            f"""SELECT deck.id, card.id, schedule.id, {history.REVIEW} FROM review
            JOIN schedule ON schedule.id = review.schedule JOIN card ON card.id = schedule.card
            JOIN deck ON deck.id = card.deck LEFT JOIN undone ON undone.review = review.id
            WHERE deck.id IN ({marks(decks)}) ORDER BY deck.position, deck.id, review.id""",
            decks,
        )


def _by_deck(rows: Iterator[history.Row]) -> Callable[[str], list[history.Row]]:
    """Gives the rows of one deck after the other; decks are asked for in the order of `rows`."""
    groups = groupby(rows, key=itemgetter(0))
    waiting = next(groups, None)

    def of(deck: str) -> list[history.Row]:
        nonlocal waiting
        if waiting is None or waiting[0] != deck:
            return []
        found = list(waiting[1])
        waiting = next(groups, None)
        return found

    return of
