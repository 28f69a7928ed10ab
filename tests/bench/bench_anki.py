"""Anki both ways: a collection of the real Anki through llmquiz and back, and how long that takes each of the two.

First 5,000 notes of ten note types with media and 100,000 reviews go into llmquiz and out again into an empty Anki;
whatever is not the same there is printed. Then 10,000 notes with 100,000 reviews are imported and exported by us and by
the real Anki, each in a process of its own, by turns. Seconds are those of the call alone; the peak is the process's.
`python -m tests.bench.bench_anki differences` runs the first part alone, `speed` the second.
"""

from __future__ import annotations

import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

NOTES, TIMED_NOTES, REVIEWS, ROUNDS = 5_000, 10_000, 100_000, 5
_SHOWN = 20


class Measured(NamedTuple):
    """One call: seconds on the clock and of the processor, peak in MB."""

    clock: float
    processor: float
    peak: float


def main(part: str = "") -> None:
    """Print the differences (none), then medians, ratios and peaks."""
    with tempfile.TemporaryDirectory() as name:
        # A child's peak is never below that of its parent, so this process stays small.
        if part != "speed":
            print(_child("differences", Path(name) / "there"), end="", flush=True)
        if part != "differences":
            _print_speed(Path(name))


def _print_speed(folder: Path) -> None:
    _child("prepare", folder)
    steps = ("import-ours", "import-anki", "export-ours", "export-anki")
    runs: dict[str, list[Measured]] = {step: [] for step in steps}
    for _ in range(ROUNDS):
        for step, measured in runs.items():
            measured.append(Measured(*map(float, _child(step, folder).split())))
    print(f"\n{TIMED_NOTES:,} notes, {REVIEWS:,} reviews, median of {ROUNDS}")
    print(f"{'':12} {'clock':>9} {'× anki':>7} {'processor':>11} {'× anki':>7} {'peak':>8}")
    medians = {step: Measured(*map(statistics.median, zip(*measured, strict=True))) for step, measured in runs.items()}
    for step, it in medians.items():
        other = medians[step.replace("ours", "anki")]
        print(
            f"{step:12} {it.clock:7.2f} s {it.clock / other.clock:7.2f} {it.processor:9.2f} s"
            f" {it.processor / other.processor:7.2f} {it.peak:5.0f} MB"
        )


def _child(step: str, folder: Path) -> str:
    command = [sys.executable, "-m", "tests.bench.bench_anki", step, str(folder)]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout


def _differences(folder: Path) -> None:
    """There and back again."""
    from llmquiz.store import Store
    from tests.support import collection, roundtrip

    source = collection.build(folder / "source", NOTES, REVIEWS)
    before = roundtrip.facts(source)
    buried = source.db.scalar("SELECT count(*) FROM cards WHERE queue < -1")
    package = collection.package(source, folder / "source.apkg")
    source.close()
    with Store.open(folder / "llmquiz.db") as store:
        report = roundtrip.take_in(store, package, folder / "media")
        again = roundtrip.take_in(store, package, folder / "media", dry_run=True)
        back = roundtrip.give_back(store, folder / "back.apkg", folder / "media")
    target = collection.taken(folder / "target", back)
    found = roundtrip.differences(before, roundtrip.facts(target))
    target.close()
    told = ", ".join(f"{len(entries):,} {kind}{'s' * (kind != 'media')}" for kind, entries in before.items())
    print(f"compared: {told} ({buried} buried cards awake, as Anki has it)")
    print(f"differences: {roundtrip.counted(found) or 'none'}")
    print(*found[:_SHOWN], sep="\n", end="\n" if found else "")
    print(f"importing the same file again: {'changes nothing' if again.nothing else again}")
    print(*(f"· {finding}" for finding in report.findings), sep="\n")


def _prepare(folder: Path) -> None:
    """A collection, its package, and our store with it."""
    from llmquiz.store import Store
    from tests.support import collection, roundtrip

    source = collection.build(folder / "source", TIMED_NOTES, REVIEWS)
    package = collection.package(source, folder / "source.apkg")
    source.close()
    with Store.open(folder / "llmquiz.db") as store:
        roundtrip.take_in(store, package, folder / "media")


def _measure(step: str, folder: Path) -> None:
    deed, who = step.split("-")
    scratch = folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    clock, processor = _anki(deed, folder, scratch) if who == "anki" else _ours(deed, folder, scratch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    print(clock, processor, peak)


def _ours(deed: str, folder: Path, scratch: Path) -> tuple[float, float]:
    from llmquiz.store import Store
    from tests.support import roundtrip

    with Store.open((scratch if deed == "import" else folder) / "llmquiz.db") as store:
        clock, processor = time.perf_counter(), time.process_time()
        if deed == "import":
            roundtrip.take_in(store, folder / "source.apkg", scratch / "media")
        else:
            roundtrip.give_back(store, scratch / "ours.apkg", folder / "media")
        return time.perf_counter() - clock, time.process_time() - processor


def _anki(deed: str, folder: Path, scratch: Path) -> tuple[float, float]:
    from anki.collection import Collection

    from tests.support import collection

    col = Collection(str((scratch if deed == "import" else folder / "source") / "collection.anki2"))
    clock, processor = time.perf_counter(), time.process_time()
    if deed == "import":
        collection.take(col, folder / "source.apkg")
    else:
        collection.package(col, scratch / "anki.apkg")
    spent = time.perf_counter() - clock, time.process_time() - processor
    col.close()
    return spent


if __name__ == "__main__":
    if len(sys.argv) < 3:
        main(*sys.argv[1:])
    elif sys.argv[1] == "differences":
        _differences(Path(sys.argv[2]))
    elif sys.argv[1] == "prepare":
        _prepare(Path(sys.argv[2]))
    else:
        _measure(sys.argv[1], Path(sys.argv[2]))
