"""Every Python block on a shipped card runs as it stands, whatever the random numbers, and quickly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmquiz import locations
from llmquiz.core.card import Card, Lang
from llmquiz.deck.inline import code_blocks
from llmquiz.deck.library import Folder, Library

pytestmark = pytest.mark.labs
SECONDS = 2.0  # of CPU, import of torch aside
RUNNER = Path(__file__).with_name("run_blocks.py")

pytest.importorskip("torch")

CARDS = {deck.id: deck.cards for deck in Library([Folder(locations.shipped("decks"), builtin=True)]).decks()}


def python_blocks(card: Card) -> dict[str, str]:
    """The Python blocks of a card's English text by ``id:number``, without their fences."""
    text = card.texts[Lang.EN]
    blocks = [block.splitlines() for part in (text.answer, text.detail, text.pitfall) for block in code_blocks(part)]
    python = [lines[1:-1] for lines in blocks if lines[0].strip("`~ ") == "python"]
    return {f"{card.id}:{number}": "\n".join(lines) for number, lines in enumerate(python, start=1)}


def test_all_blocks_run() -> None:
    """In one process: importing torch takes longer than most of them."""
    blocks = {name: code for cards in CARDS.values() for card in cards for name, code in python_blocks(card).items()}
    assert len(blocks) > 50
    ran = subprocess.run(
        [sys.executable, RUNNER],
        input=json.dumps(blocks),
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    results = json.loads(ran.stdout)
    assert results.keys() == blocks.keys()
    assert {name: error for name, (error, _) in results.items() if error} == {}
    assert {name: seconds for name, (_, seconds) in results.items() if seconds > SECONDS} == {}
