"""Two hundred SIGKILLs at random moments: what was acknowledged before each is there after it, and the file is whole.

Fifty each of study, import, migration (from every earlier schema) and backup, then some of restore, sync and repair.
``LLMQUIZ_BENCH_KILLS`` sets how many each of the four gets. A kill counts as within the work if it came before its end.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from llmquiz.store import Store, backup, health
from llmquiz.store.migrations import LATEST
from tests.store.crash_child import Children, deck_of
from tests.store.test_crash import CARDS, make_old
from tests.support.making import NOON, make_card, make_deck

KILLS = 50
SEED = 20


@dataclass
class Tally:
    """What happened in one kind of work."""

    kills: int = 0
    within: int = 0
    acknowledged: int = 0
    lost: int = 0
    damaged: int = 0

    def count(self, code: int, acknowledged: int, lost: int, path: Path) -> None:
        self.kills += 1
        self.within += code == -9
        self.acknowledged += acknowledged
        self.lost += lost
        self.damaged += bool(health.inspect(path).problems)


def studied(path: Path) -> Path:
    with Store.open(path) as store:
        store.sync([make_deck(*(make_card(f"c{number}") for number in range(CARDS)))], now=NOON)
    return path


def study(children: Children, folder: Path, chance: random.Random, kills: int) -> Tally:
    """Each answer that was acknowledged is in the log, and its card's schedule is of it or of a later one."""
    path, tally = studied(folder / "llmquiz.db"), Tally()
    known: dict[int, tuple[int, int]] = {}
    for number in range(kills):
        with Store.open(path) as store:
            store.set_meta("now", str(NOON + number * 9 * 86_400))
        ended = children.killed("study", path, delay=chance.uniform(0.005, 0.2))
        known |= {int(schedule): (int(reps), int(due)) for schedule, reps, due in ended.lines}
        with Store.open(path) as store:
            lost = 0
            for schedule, (reps, due) in known.items():
                kept = store.schedule(schedule)
                lost += len(store.history(schedule)) < reps or (kept.reps == reps and kept.due != due)
        tally.count(ended.code, len(ended.lines), lost, path)
    return tally


def imported(children: Children, folder: Path, chance: random.Random, kills: int) -> Tally:
    """Each import that was acknowledged is there with its answers, and no part of one that was not."""
    path, tally, there, step = studied(folder / "llmquiz.db"), Tally(), 0, 50
    for _ in range(kills):
        ended = children.killed("imports", path, delay=chance.uniform(0.005, 0.5), first=there + step, step=step)
        with Store.open(path) as store:
            notes, answers = (
                store.connection.execute(sql).fetchone()[0]
                for sql in ("SELECT count(*) FROM card WHERE deck = 'csv-deck'", "SELECT count(*) FROM review")
            )
        told = max((int(line[0]) for line in ended.lines), default=there)
        lost = notes < told or notes % step != 0 or answers != 2 * notes
        tally.count(ended.code, len(ended.lines), lost, path)
        there = notes if notes < 4000 else 0
        if not there:
            path.unlink()
            studied(path)
    return tally


def migration(children: Children, folder: Path, chance: random.Random, kills: int) -> Tally:
    """Every card and answer of the old schema is in the new one; killed, it is the one or the other."""
    tally, cards = Tally(), 2500
    originals = {version: folder / f"old-{version}.db" for version in range(1, LATEST)}
    reviews = {version: make_old(original, version, cards) for version, original in originals.items()}
    for number in range(kills):
        version = 1 + number % (LATEST - 1)
        path = folder / f"m{number}" / "llmquiz.db"
        path.parent.mkdir()
        shutil.copy(originals[version], path)
        ended = children.killed("opening", path, delay=chance.uniform(0.005, 0.6))
        before = health.inspect(path)
        Store.open(path).close()
        found = health.inspect(path)
        lost = (found.cards, found.reviews, found.schema) != (cards, reviews[version], LATEST)
        lost |= before.schema not in (version, LATEST)
        tally.count(ended.code, len(ended.lines), lost, path)
        shutil.rmtree(path.parent)
    return tally


def copies(children: Children, folder: Path, chance: random.Random, kills: int) -> Tally:
    """Each copy that was acknowledged and not thinned since is there, and every file with a copy's name is whole."""
    path, tally = studied(folder / "llmquiz.db"), Tally()
    for number in range(kills):
        now = NOON + 10_000 * number
        ended = children.killed("backups", path, delay=chance.uniform(0.005, 0.1), now=now)
        there = {one.path.name: one.path for one in backup.listing(path)}
        # One more may have been made and not acknowledged, and have pushed the oldest of the newest out.
        lost = sum(line[0] not in there for line in ended.lines[1 - backup.NEWEST :])
        lost += sum(health.inspect(copy).cards != CARDS for copy in there.values())
        tally.count(ended.code, len(ended.lines), lost, path)
    return tally


def restores(children: Children, folder: Path, chance: random.Random, kills: int) -> Tally:
    """The database has all of one copy or all of the other."""
    path, tally = folder / "llmquiz.db", Tally()
    sources = []
    with Store.open(path) as store:
        for version in range(2):
            store.sync([deck_of(version, 300)], now=NOON)
            sources.append(str(store.backup(now=NOON + version)))
    for _ in range(kills // 2):
        ended = children.killed("restores", path, delay=chance.uniform(0.005, 0.1), sources=sources)
        tally.count(ended.code, len(ended.lines), versions(path, "other") != 1, path)
    return tally


def syncs(children: Children, folder: Path, chance: random.Random, kills: int) -> Tally:
    """The deck has all of one content or all of the other."""
    path, tally = studied(folder / "llmquiz.db"), Tally()
    for _ in range(kills // 2):
        ended = children.killed("syncs", path, delay=chance.uniform(0.01, 0.2), cards=200)
        tally.count(ended.code, len(ended.lines), versions(path, "other") > 1, path)
    return tally


def versions(path: Path, deck: str) -> int:
    with Store.open(path) as store:
        return len({text.answer for card in store.cards(deck) for text in card.texts.values()})


def main() -> None:
    """Print a line for each kind of work, and fail if anything was lost."""
    most = int(os.environ.get("LLMQUIZ_BENCH_KILLS", KILLS))
    works: tuple[Callable[..., Tally], ...] = (study, imported, migration, copies, restores, syncs)
    total = Tally()
    print(f"{'':12}{'kills':>8}{'within':>8}{'acknowledged':>14}{'lost':>6}{'damaged':>9}{'s':>7}")
    with tempfile.TemporaryDirectory() as folder, Children() as children:
        for work in works:
            started = time.perf_counter()
            place = Path(folder) / work.__name__
            place.mkdir()
            tally = work(children, place, random.Random(SEED), most)
            show(work.__name__, tally, time.perf_counter() - started)
            for name in ("kills", "within", "acknowledged", "lost", "damaged"):
                setattr(total, name, getattr(total, name) + getattr(tally, name))
    show("total", total, 0.0)
    assert (total.lost, total.damaged) == (0, 0)


def show(name: str, tally: Tally, seconds: float) -> None:
    counts = f"{tally.kills:8}{tally.within:8}{tally.acknowledged:14}{tally.lost:6}{tally.damaged:9}"
    print(f"{name:12}{counts}{seconds:7.0f}", flush=True)


if __name__ == "__main__":
    main()
