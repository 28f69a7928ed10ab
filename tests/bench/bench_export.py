"""Exporting 10,000 notes with 100,000 reviews as an .apkg: we beside the real Anki's own export of the same notes.

Each export runs in a process of its own, the two by turns. Seconds are those of the export call alone, on the clock and
of the processor, with those of the second process that we render in; the peak is the first process's. We turn Markdown
and TeX into HTML as we go, and keep none of it from one export to the next; Anki holds the HTML of these notes, which
it imported from us.
"""

from __future__ import annotations

import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from llmquiz.core.card import Card, CardText, Lang
from llmquiz.store import Store

NOTES, REVIEWS, ROUNDS = 10_000, 100_000, 5
WORDS = "attention cache head layer memory bandwidth token latency gradient softmax variance batch weight rank grows"


class Measured(NamedTuple):
    """One export: seconds on the clock and of the processor, peak in MB, size in bytes."""

    clock: float
    processor: float
    peak: float
    size: float


def main() -> None:
    """Print the medians, their ratios and the peaks."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # A child's peak is never below that of its parent, so this process stays small.
        _child("prepare", folder)
        runs: dict[str, list[Measured]] = {"ours": [], "anki": []}
        for _ in range(ROUNDS):
            for who, measured in runs.items():
                measured.append(Measured(*map(float, _child(who, folder).split())))
    medians = {who: Measured(*map(statistics.median, zip(*measured, strict=True))) for who, measured in runs.items()}
    print(f"{'':6} {'clock':>9} {'× anki':>7} {'processor':>11} {'× anki':>7} {'peak':>8} {'file':>8}")
    for who, it in medians.items():
        ratios = it.clock / medians["anki"].clock, it.processor / medians["anki"].processor
        print(
            f"{who:6} {it.clock:7.2f} s {ratios[0]:7.2f} {it.processor:9.2f} s {ratios[1]:7.2f}"
            f" {it.peak:5.0f} MB {it.size / 1e6:5.1f} MB"
        )


def _child(step: str, folder: Path) -> str:
    command = [sys.executable, "-m", "tests.bench.bench_export", step, str(folder)]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout


def _prepare(folder: Path) -> None:
    """Our store, and a collection that imported it."""
    from anki.collection import Collection, ImportAnkiPackageOptions, ImportAnkiPackageRequest

    from tests.bench import generate

    now = time.time()
    generate.build_ours(folder / "llmquiz.db", NOTES, REVIEWS, now)
    chance = random.Random(1)
    with Store.open(folder / "llmquiz.db") as store:
        decks = [generate._deck(number, NOTES) for number in range(generate.DECKS)]
        store.sync([replace(it, cards=tuple(_fuller(card, chance) for card in it.cards)) for it in decks], now=now)
    _ours(folder)
    collection = Collection(str(folder / "collection.anki2"))
    options = ImportAnkiPackageOptions(with_scheduling=True, with_deck_configs=True)
    collection.import_anki_package(ImportAnkiPackageRequest(package_path=str(folder / "ours.apkg"), options=options))
    collection.close()


def _fuller(card: Card, chance: random.Random) -> Card:
    """A card of the size and the markup of a shipped one."""

    def prose(words: int) -> str:
        said = [chance.choice(WORDS.split()) for _ in range(words)]
        said[chance.randrange(words)] = f"$\\sqrt{{d_{{{chance.randrange(500)}}}}}$"
        said[chance.randrange(words)] = "`num_kv_heads`"
        return " ".join(said).capitalize() + "."

    code = f"```python\nscores = queries @ keys.T / {chance.random()}\n```" if chance.random() < 0.1 else prose(20)
    english = CardText(
        prose(12),
        prose(30),
        f"{prose(40)}\n\n- {prose(10)}\n- {prose(10)}\n\n{code}",
        tuple(prose(9) for _ in range(4)),
        prose(25),
    )
    sources = (f"Vaswani et al. 2017, §{chance.randrange(9)}, <https://arxiv.org/abs/1706.03762>",)
    return replace(card, texts={**card.texts, Lang.EN: english}, sources=sources)


def _ours(folder: Path) -> None:
    from llmquiz.anki.exporting.export import export

    with Store.open(folder / "llmquiz.db") as store:
        export(store, (), folder / "ours.apkg", with_schedule=True)


def _anki(folder: Path) -> None:
    from anki.collection import Collection, ExportAnkiPackageOptions

    collection = Collection(str(folder / "collection.anki2"))
    options = ExportAnkiPackageOptions(with_scheduling=True, with_deck_configs=True, legacy=True)
    collection.export_anki_package(out_path=str(folder / "anki.apkg"), options=options, limit=None)
    collection.close()


def _measure(who: str, folder: Path) -> None:
    call = {"ours": _ours, "anki": _anki}[who]
    clock, processor = time.perf_counter(), _processor()
    call(folder)
    clock, processor = time.perf_counter() - clock, _processor() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    print(clock, processor, peak, (folder / f"{who}.apkg").stat().st_size)


def _processor() -> float:
    """Seconds that this process and those that it has waited for have worked."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    if not sys.argv[1:]:
        main()
    elif sys.argv[1] == "prepare":
        _prepare(Path(sys.argv[2]))
    else:
        _measure(sys.argv[1], Path(sys.argv[2]))
