"""How a lab that trains ends when it cannot go on: in one line that says why, with what it had measured kept."""

from __future__ import annotations

import json
import struct
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmquiz.lab.catalog import Catalog
from llmquiz.lab.events import Outcome
from llmquiz.lab.runner import run_blocking
from llmquiz.lab.server import ForkServer
from llmquiz.lab.state import RunState

from .running import LABS

pytestmark = pytest.mark.labs

MANIFEST = """
title = { en = "A lab of the tests", zh = "测试用实验" }
summary = { en = "Ends badly.", zh = "以失败告终。" }
topics = ["lora"]
needs = ["torch"]

[metrics.loss]
unit = "nats/token"
"""
TRAINS = """
import torch
from llmquiz.lab.sdk import Params, Report
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import random_decoder
from llmquiz.llm.train.trainer import Trainer

def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    model = random_decoder(ModelConfig(32, 16, 1, 2, 2, 8, 32), seed=0).train()
    trainer = Trainer(model, torch.optim.SGD(model.parameters(), lr=0.1))
    tokens = torch.arange(24).view(2, 12)
    for step in range(6):
        if step == 3:
            {fault}
        report.point("loss", step, trainer.step([(tokens, tokens)]).loss)
"""


@pytest.fixture
def run_script(tmp_path: Path) -> Callable[[str], RunState]:
    """Runs a lab that trains and meets `fault`, a line of Python, at its fourth step."""

    def run(fault: str) -> RunState:
        folder = tmp_path / "labs" / "ending"
        folder.mkdir(parents=True)
        (folder / "lab.toml").write_text(MANIFEST, encoding="utf-8")
        (folder / "lab.py").write_text(textwrap.dedent(TRAINS).replace("{fault}", fault))
        state = RunState()
        run_blocking(Catalog([(folder.parent, False)]).find("ending"), {}, state.apply, device="cpu")
        return state

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "outcome", "words"),
    [
        ("model.norm.weight.data.fill_(float('nan'))", Outcome.FAILED, "step 3: the loss is nan; lower the learning"),
        ("torch.empty(2**50)", Outcome.MEMORY, "choose smaller parameters"),
        ("open('/dev/full', 'wb', buffering=0).write(b'weights')", Outcome.FAILED, "no space left on the device"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", Outcome.FAILED, "SIGKILL"),
    ],
)
def test_the_points_before_the_fault_are_kept_and_the_end_says_why(
    run_script: Callable[[str], RunState], fault: str, outcome: Outcome, words: str
) -> None:
    state = run_script(fault)

    assert state.outcome is outcome
    assert state.ended is not None
    assert words in (state.ended.error or "")
    (points,) = state.series["loss"].values()
    assert [x for x, _ in points] == [0, 1, 2]


def checkpoint(folder: Path, **config: Any) -> Path:
    """A checkpoint whose file claims a matrix of 2^20 by 2^20 and holds nothing."""
    shape = {
        "model_type": "llama",
        "vocab_size": 2**20,
        "hidden_size": 2**20,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 8,
    }
    (folder / "config.json").write_text(json.dumps(shape | config))
    header = json.dumps({"model.embed_tokens.weight": {"dtype": "F32", "shape": [2**20] * 2, "data_offsets": [0, 0]}})
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode())
    return folder


TAKES_WEIGHTS = [
    lab.name
    for lab in Catalog([(LABS, True)]).labs()
    if "model" in lab.manifest.params and "torch" in lab.manifest.needs
]


@pytest.mark.slow
@pytest.mark.parametrize("name", TAKES_WEIGHTS)
def test_a_model_too_large_is_refused_before_it_is_loaded(name: str, tmp_path: Path, server: ForkServer) -> None:
    state = RunState()
    lab = Catalog([(LABS, True)]).find(name)
    run_blocking(lab, {"model": str(checkpoint(tmp_path))}, state.apply, device="cpu", server=server)

    assert state.outcome is Outcome.FAILED
    assert state.ended is not None
    assert "GiB" in (state.ended.error or "")
    assert "free" in (state.ended.error or "")
