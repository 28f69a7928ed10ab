"""Every Python block on a shipped card runs as it stands, whatever the random numbers, and quickly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
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


def python_blocks(card: Card, mark: str = "python") -> dict[str, str]:
    """The blocks of a card's English text that are marked so, by ``id:number``, without their fences."""
    text = card.texts[Lang.EN]
    blocks = [block.splitlines() for part in (text.answer, text.detail, text.pitfall) for block in code_blocks(part)]
    python = [lines[1:-1] for lines in blocks if lines[0].strip("`~ ") == mark]
    return {f"{card.id}:{number}": "\n".join(lines) for number, lines in enumerate(python, start=1)}


@pytest.mark.slow
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


@pytest.mark.slow
def test_blocks_that_need_a_model_run_with_a_tiny_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block marked `py` speaks of a `model` of transformers that its reader has loaded."""
    monkeypatch.chdir(tmp_path)
    blocks = [code for cards in CARDS.values() for card in cards for code in python_blocks(card, "py").values()]
    assert blocks
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the imports
        from transformers import LlamaConfig, LlamaForCausalLM

        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
        for code in blocks:
            model = LlamaForCausalLM(LlamaConfig(vocab_size=64, num_key_value_heads=2, **sizes))
            exec(compile(code, "card", "exec", dont_inherit=True), {"model": model})
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
