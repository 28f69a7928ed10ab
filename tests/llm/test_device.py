"""What a device's helpers promise: formats, one-kernel AdamW, and bytes that can be counted by hand."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.errors import TrainingError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import random_decoder  # noqa: E402
from llmquiz.llm.train.device import (  # noqa: E402
    autocast,
    fused_adamw,
    maybe_compile,
    note_peak,
    peak_memory,
    saved_activation_bytes,
)

pytestmark = pytest.mark.labs

CONFIG = ModelConfig(32, 16, 4, 2, 2, 8, 24)
TOKENS, FLOAT = 2 * 8, 4


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_autocast_narrows_products_and_keeps_weights_and_losses(precision: str, dtype: Any) -> None:
    linear = torch.nn.Linear(4, 4)
    with autocast("cpu", precision):
        product = linear(torch.randn(2, 4))
        loss = torch.nn.functional.mse_loss(product, torch.zeros(2, 4))

    assert product.dtype == dtype
    assert loss.dtype == linear.weight.dtype == torch.float32


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(TrainingError, match="'int8' is not one of fp32, bf16, fp16"):
        autocast("cpu", "int8")


def test_fused_adamw_steps_as_torchs_plain_one() -> None:
    weights = [torch.nn.Parameter(torch.linspace(-1, 1, 6)) for _ in range(2)]
    ours = fused_adamw([weights[0]], lr=0.1, weight_decay=0.1)
    plain = torch.optim.AdamW([weights[1]], lr=0.1, betas=(0.9, 0.95), weight_decay=0.1, foreach=False)
    for _ in range(3):
        for weight, optimizer in zip(weights, (ours, plain), strict=True):
            optimizer.zero_grad()
            weight.pow(2).sum().backward()
            optimizer.step()

    assert ours.defaults["fused"]
    torch.testing.assert_close(weights[0], weights[1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # within torch's compiler
def test_compiling_keeps_the_names_and_the_outputs() -> None:
    model, tokens = random_decoder(CONFIG, seed=0), torch.randint(32, (2, 8))
    names, eager = list(model.state_dict()), model(tokens)
    assert maybe_compile(model, False) is model
    torch.testing.assert_close(model(tokens), eager, rtol=0, atol=0)

    try:
        assert maybe_compile(model, True) is model
    except TrainingError as error:  # a machine with Python, make and pip alone
        pytest.skip(str(error))
    assert list(model.state_dict()) == names
    traced = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    torch.testing.assert_close(model(tokens), eager, rtol=1e-5, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > traced
    torch.testing.assert_close(copy.deepcopy(model)(tokens), eager, rtol=0, atol=0)


@pytest.mark.slow
def test_without_a_compiler_the_run_is_refused_in_a_line() -> None:
    """In a process of its own: torch remembers which compiler it found."""
    script = (
        "import torch; from llmquiz.llm.train.device import maybe_compile; maybe_compile(torch.nn.Linear(1, 1), True)"
    )
    environment = {**os.environ, "CXX": "/no/such/compiler"}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)

    last = ended.stderr.strip().splitlines()[-1]
    assert "TrainingError: compile: no kernel can be built for cpu" in last
    assert last.endswith("install a C++ compiler, on CUDA also Triton, or leave compile off")


def test_saved_bytes_are_those_of_the_formula() -> None:
    x, weight = torch.randn(8, 16), torch.randn(16, 4, requires_grad=True)
    inputs, result = 8 * 16 * FLOAT, 8 * 4 * FLOAT

    assert saved_activation_bytes(lambda: x @ weight) == inputs  # the gradient of x is not asked for
    x.requires_grad_()
    assert saved_activation_bytes(lambda: x @ weight) == inputs + weight.nbytes
    assert saved_activation_bytes(lambda: x @ weight, [weight]) == inputs
    assert saved_activation_bytes(lambda: (x @ weight).tanh(), [weight]) == inputs + result
    assert saved_activation_bytes(lambda: (x @ weight).tanh() + (x @ weight).sum(), [weight]) == inputs + result


def test_checkpointing_saves_one_input_a_layer() -> None:
    model, tokens = random_decoder(CONFIG, seed=0), torch.randint(32, (2, 8))

    def saved(layers: int) -> int:
        whole = model.layers
        model.layers = whole[:layers]
        found = saved_activation_bytes(lambda: model(tokens).sum(), model.parameters())
        model.layers = whole
        return found

    kept = saved(4) - saved(2)
    model.checkpointing = True
    assert saved(4) - saved(2) == 2 * TOKENS * 16 * FLOAT
    assert kept > 10 * (saved(4) - saved(2))


def test_peak_memory_is_what_lived_at_once() -> None:
    kilobyte = 256  # floats
    with peak_memory("cpu") as peak:
        first = torch.zeros(3 * kilobyte)
        del first
        second = torch.ones(kilobyte)
        third = second.view(16, 16) + 1
        third += 1  # in place, as the view, it adds nothing
    assert third.sum() == 3 * kilobyte
    assert peak.bytes == 3 * 1024


def test_peak_memory_sees_the_backward_pass() -> None:
    x = torch.randn(256, requires_grad=True)
    with peak_memory("cpu") as forward:
        loss = x.exp().sum()
    with peak_memory("cpu") as backward:
        loss.backward()

    assert forward.bytes == 1024 + FLOAT
    assert backward.bytes >= 1024


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_same_on_cuda() -> None:
    with peak_memory("cuda") as peak:
        x = torch.zeros(2**20, device="cuda")
        x = x + 1

    assert 8 * 2**20 <= peak.bytes <= 9 * 2**20
    notes: list[str] = []
    note_peak("cuda", notes.append)
    note_peak("cpu", notes.append)
    assert len(notes) == 1
    assert notes[0].endswith("GiB")
