"""A process that forks children which write to a database until they are killed; importing once makes a kill cheap.

It reads a job from stdin, a JSON object in a line, and answers with the process id of the child that does it. What the
child prints are acknowledgements: what each says was on disk before it was printed. A line ``end`` follows when the
child is gone; it carries the child's exit code. `Children` is the other end.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from llmquiz import locations
from llmquiz.core.card import Deck
from llmquiz.core.errors import LlmquizError
from llmquiz.core.options import Options
from llmquiz.core.rating import Rating
from llmquiz.core.schedule import Schedule, State
from llmquiz.store import Store, backup, database, filesystem, health
from llmquiz.study.session import Session
from tests.support.making import CALENDAR, NOON, FrozenClock, make_card, make_deck

ROOT = Path(__file__).parent.parent.parent
OPTIONS = Options(new_per_day=9999, reviews_per_day=9999)
Job = dict[str, Any]


def say(*words: object) -> None:
    """A line that a kill does not cut: short writes to a pipe are whole."""
    os.write(sys.stdout.fileno(), (" ".join(map(str, words)) + "\n").encode())


def study(job: Job) -> None:
    """Answers cards; says for each answer its id, the part of the card, its answers so far and its due."""
    clock = FrozenClock()
    with Store.open(Path(job["path"])) as store:
        clock.now = float(store.meta("now") or clock.now)
        sitting = Session(store, OPTIONS, calendar=CALENDAR, clock=clock)
        for number in itertools.count():
            if sitting.next() is None:
                clock.now += 86_400
                continue
            rated = sitting.rate(Rating.AGAIN if number % 4 == 0 else Rating.GOOD, duration_ms=1)
            after = rated.outcome.schedule
            say(rated.schedule_id, after.reps, after.due)
            clock.now += 61


def stubborn(job: Job) -> None:
    """As `study`, with an `undo` now and then, on the system's clock, and in the face of others who do the same."""
    chance = random.Random(job["seed"])
    mine: list[int] = []
    with Store.open(Path(job["path"])) as store:
        sitting = Session(store, OPTIONS, calendar=CALENDAR)
        stale = locked = undone = 0
        while len(mine) < job["answers"]:
            prompt = sitting.next()
            if prompt is None:
                break
            time.sleep(chance.random() * job.get("think", 0.002))
            try:
                if mine and chance.random() < 0.1 and sitting.undo():
                    undone += 1
                    mine.pop()
                    continue
                sitting.rate(chance.choice([*Rating]), duration_ms=1)
                mine.append(last_own_review(store))
            except database.StoreError as error:
                stale += "another llmquiz" in str(error) or "elsewhere" in str(error)
                locked += "locked" in str(error)
        say(json.dumps({"mine": mine, "stale": stale, "locked": locked, "undone": undone}))


def last_own_review(store: Store) -> int:
    sql = "SELECT review FROM action WHERE id = (SELECT max(id) FROM own_action)"
    return int(store.connection.execute(sql).fetchone()[0])


def opening(job: Job) -> None:
    """Brings an old database up to date."""
    with Store.open(Path(job["path"])) as store:
        say("open", store.connection.execute("SELECT count(*) FROM review").fetchone()[0])


def backups(job: Job) -> None:
    """Copies the database again and again; says the name of each copy."""
    with Store.open(Path(job["path"]), read_only=True) as store:
        for number in range(job.get("times", 10**9)):
            say(store.backup(now=job.get("now", NOON) + number).name)


def restores(job: Job) -> None:
    """Restores one of two copies after the other; says which is there now."""
    for source in itertools.cycle(job["sources"]):
        backup.restore(Path(source), Path(job["path"]))
        say(source)


def syncs(job: Job) -> None:
    """Gives the deck one of two contents after the other; says which it has."""
    with Store.open(Path(job["path"])) as store:
        for number in range(job.get("times", 10**9)):
            store.sync([deck_of(number % 2, job["cards"])], now=NOON)
            say(number % 2)
            time.sleep(job.get("think", 0))


def deck_of(version: int, cards: int) -> Deck:
    """Half of its cards are in both versions, with other texts."""
    numbers = range(cards) if version == 0 else range(cards // 2, cards + cards // 2)
    return make_deck(*(make_card(f"s{number}", "other", answer=f"v{version}") for number in numbers), deck="other")


def repairs(job: Job) -> None:
    """Rebuilds a damaged database."""
    found, _ = health.repair(Path(job["path"]))
    say(found.cards, found.reviews)


def imports(job: Job) -> None:
    """Merges what another program exported, a larger file each time; says how many notes of it are there.

    Every other time the notes come staged, as from a reader of large files.
    """
    from llmquiz.store import intake
    from tests.store.incoming import staged

    folder = Path(job["path"]).parent.parent / f"staged-{os.getpid()}"
    with Store.open(Path(job["path"])) as store:
        for number, size in enumerate(itertools.count(job["first"], job["step"])):
            arriving = incoming(size)
            if number % 2 == 0:
                by_sql = staged([*arriving.notes], folder).staged
                arriving = replace(arriving, notes=(), staged=by_sql)
            intake.merge(store, arriving, calendar=CALENDAR, now=NOON)
            say(size)


def incoming(size: int) -> Any:
    """So many notes with two answers each."""
    from llmquiz.core.card import Lang
    from llmquiz.store.incoming import Incoming, IncomingDeck, IncomingNote, IncomingPart, IncomingReview

    def notes() -> Iterator[IncomingNote]:
        for number in range(size):
            at = 1_600_000_000_000 + 10 * number
            log = [
                IncomingReview(at, 3, State.NEW, 1, 0, 900),
                IncomingReview(at + 86_400_000, 3, State.REVIEW, 3, 1, 900),
            ]
            yield IncomingNote(
                make_card(f"csv-{number}", "csv-deck"), number, [IncomingPart(0, Schedule(), reviews=log)]
            )

    return Incoming("csv", [IncomingDeck("csv-deck", {Lang.EN: "Deck"})], notes(), size)


def squeezed(job: Job) -> None:
    """Does what `what` says while no file may grow beyond `most` bytes; it fails, and then there is room again."""
    limit(job["most"])
    try:
        JOBS[job["what"]](job)
    except LlmquizError as error:
        say("error", error)
    limit(resource.RLIM_INFINITY)


def persistent(job: Job) -> None:
    """Answers cards until no file may grow; then there is room, and the same card is answered after all."""
    limit(job["most"])
    clock = FrozenClock()
    with Store.open(Path(job["path"])) as store:
        sitting = Session(store, OPTIONS, calendar=CALENDAR, clock=clock)
        for _ in range(500):
            before = sitting.next()
            assert before is not None
            try:
                rated = sitting.rate(Rating.EASY, duration_ms=1)
            except LlmquizError as error:
                say("error", error)
                limit(resource.RLIM_INFINITY)
                assert sitting.next() == before
                rated = sitting.rate(Rating.EASY, duration_ms=1)
                say(rated.schedule_id, rated.outcome.schedule.due)
                return
            say(rated.schedule_id, rated.outcome.schedule.due)


def limit(most: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


def together(job: Job) -> None:
    """Several jobs at once, each in a process of its own; says how each ended."""
    children = []
    for part in job["jobs"]:
        if (child := os.fork()) == 0:
            code = 1
            try:
                JOBS[part["do"]](job | part)
                code = 0
            except LlmquizError as error:
                say("error", error)
            finally:
                os._exit(code)
        children.append(child)
    say("codes", *(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))


def command(job: Job) -> None:
    """What a user types beside a session, in the folder of the database; says the exit code of each."""
    from llmquiz.cli.main import main

    home = Path(job["path"]).parent.parent
    os.environ["LLMQUIZ_HOME"] = str(home)
    locations.shipped = lambda kind: home / "nothing" / kind
    sink = os.open(os.devnull, os.O_WRONLY)
    sys.stdout.flush()
    real = os.dup(1)
    os.dup2(sink, 1)
    codes = [main(words.format(home=Path(job["path"]).parent).split()) for words in job["lines"]]
    sys.stdout.flush()
    os.dup2(real, 1)
    say("exit", *codes)


JOBS: dict[str, Callable[[Job], None]] = {
    it.__name__: it
    for it in (
        study,
        stubborn,
        opening,
        backups,
        restores,
        syncs,
        repairs,
        imports,
        squeezed,
        persistent,
        together,
        command,
    )
}


def serve() -> None:
    """Fork a child for each job; report its end."""
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 1
            if job.get("network"):
                filesystem.is_network = lambda folder: True
            try:
                say("pid", os.getpid())
                JOBS[job["do"]](job)
                code = 0
            except LlmquizError as error:
                say("error", error)
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        say("end", os.waitstatus_to_exitcode(status))


@dataclass(frozen=True)
class Ended:
    """What a child acknowledged, and its exit code: -9 if it was killed."""

    lines: list[list[str]]
    code: int

    @property
    def error(self) -> str:
        return next((" ".join(line[1:]) for line in self.lines if line[0] == "error"), "")


class Children:
    """A server of children that do one job at a time."""

    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
        command = [sys.executable, "-m", "tests.store.crash_child"]
        self._server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment, cwd=ROOT
        )

    def __enter__(self) -> Children:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(20)
        assert self._server.stdout is not None
        self._server.stdout.close()

    def start(self, do: str, path: Path, **job: Any) -> int:
        """Start a child; its process id."""
        assert self._server.stdin is not None
        print(json.dumps({"do": do, "path": str(path), **job}), file=self._server.stdin, flush=True)
        return int(self._line()[1])

    def ended(self, first: list[list[str]] | None = None) -> Ended:
        """Wait for the child's end."""
        lines = list(first or [])
        while (line := self._line())[0] != "end":
            lines.append(line)
        return Ended(lines, int(line[1]))

    def run(self, do: str, path: Path, **job: Any) -> Ended:
        """Let a child do all of its job."""
        self.start(do, path, **job)
        return self.ended()

    def killed(self, do: str, path: Path, *, after: int = 0, delay: float = 0.0, **job: Any) -> Ended:
        """Kill a child when it has acknowledged so often, and then so many seconds later."""
        child = self.start(do, path, **job)
        lines: list[list[str]] = []
        while len(lines) < after:
            lines.append(self._line())
            if lines[-1][0] == "end":
                return Ended(lines[:-1], int(lines[-1][1]))
        time.sleep(delay)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        return self.ended(lines)

    def _line(self) -> list[str]:
        assert self._server.stdout is not None
        return self._server.stdout.readline().split()


if __name__ == "__main__":
    serve()
